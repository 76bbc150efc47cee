//! A network that can be cut: connections to a port, passed on to another one.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Passes connections on while the network is whole.
pub struct Proxy {
    /// Where to connect to.
    pub port: u16,
    to: Arc<AtomicU16>,
    cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// Listens on a free port; where to pass on to is said by [`Proxy::lead_to`].
    ///
    /// # Panics
    /// When there is no port or no thread.
    pub fn start() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let proxy = Proxy { port, to: Arc::default(), cut: Arc::default(), open: Arc::default() };
        let (to, cut, open) = (proxy.to.clone(), proxy.cut.clone(), proxy.open.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let there = TcpStream::connect(("127.0.0.1", to.load(Ordering::Relaxed)));
                let (Ok(server), Ok(back), Ok(forth)) = (there, client.try_clone(), client.try_clone())
                else {
                    continue;
                };
                let (Ok(from_server), Ok(kept)) = (server.try_clone(), server.try_clone()) else { continue };
                let mut all = open.lock().unwrap_or_else(PoisonError::into_inner);
                all.extend([forth, kept]);
                drop(all);
                for (from, to) in [(client, server), (from_server, back)] {
                    let cut = cut.clone();
                    std::thread::spawn(move || pass(from, to, &cut));
                }
            }
        });
        proxy
    }

    /// Connections are passed on to this port.
    pub fn lead_to(&self, port: u16) {
        self.to.store(port, Ordering::Relaxed);
    }

    /// Nothing comes through any more, and nobody is told: packets just vanish.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// Ends the cut: what was open before is broken, as after a router was changed.
    pub fn mend(&self) {
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.cut.store(false, Ordering::Relaxed);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let mut bytes = [0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        while cut.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
