//! Connections between executors, kept for the next fetch. (Ballista's own pool is private; without one every fetch of
//! a shuffle would open a connection.)

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ballista_core::client::BallistaClient;
use ballista_core::client_pool::{BallistaClientPool, PooledClient};
use ballista_core::error::Result;
use ballista_core::extension::BallistaConfigGrpcEndpoint;
use ballista_core::utils::GrpcClientConfig;

/// An idle connection is kept for so long.
const IDLE: Duration = Duration::from_secs(30);

type Idle = HashMap<(String, u16, GrpcClientConfig), Vec<(Instant, BallistaClient)>>;

/// Idle connections by where they go.
#[derive(Default, Clone)]
pub(crate) struct Connections(Arc<Mutex<Idle>>);

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connections")
    }
}

impl Connections {
    fn with<T>(&self, change: impl FnOnce(&mut Idle) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn drop_old(idle: &mut Idle) {
    idle.retain(|_, clients| {
        clients.retain(|(since, _)| since.elapsed() < IDLE);
        !clients.is_empty()
    });
}

#[async_trait::async_trait]
impl BallistaClientPool for Connections {
    async fn acquire(
        &self,
        host: &str,
        port: u16,
        config: &GrpcClientConfig,
        customize_endpoint: Option<Arc<BallistaConfigGrpcEndpoint>>,
    ) -> Result<PooledClient> {
        let key = (host.to_string(), port, config.clone());
        let known = self.with(|idle| {
            drop_old(idle);
            idle.get_mut(&key).and_then(Vec::pop)
        });
        let client = match known {
            Some((_, client)) => client,
            None => {
                BallistaClient::try_new(
                    host,
                    port,
                    config.max_message_size,
                    config.use_tls,
                    customize_endpoint,
                    config.io_retries_times,
                    config.io_retry_wait_time_ms,
                    config.initial_connection_window_size,
                    config.initial_stream_window_size,
                )
                .await?
            }
        };
        let back = self.clone();
        let returned = move |client| {
            back.with(|idle| idle.entry(key).or_default().push((Instant::now(), client)));
        };
        Ok(PooledClient::new(client, Box::new(returned)))
    }

    async fn evict_idle(&self) {
        self.with(drop_old);
    }
}
