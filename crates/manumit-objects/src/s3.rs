//! Objects of an S3-compatible store: requests signed in the query, over TLS.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use rusty_s3::actions::{ListObjectsV2, S3Action as _};
use rusty_s3::{Bucket, Credentials, UrlStyle};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, AsSendBody, Body, http::Response};

use crate::{Fault, ObjectError};

/// How long a signature holds: a request begins at once, but clocks differ.
const SIGNED_FOR: Duration = Duration::from_secs(900);

/// How long an answer may stay away.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a store says of a fault at most, in bytes.
const FAULT_BYTES: u64 = 64 * 1024;

/// A page of a list at most, in bytes: a thousand keys.
const LIST_BYTES: u64 = 8 * 1024 * 1024;

pub(crate) struct S3 {
    bucket: Bucket,
    credentials: Credentials,
    /// Ends with `/`, or is empty.
    prefix: String,
    agent: Agent,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

impl S3 {
    pub(crate) fn open(place: &str, rest: &str) -> Result<S3, ObjectError> {
        let refuse = |why: String| ObjectError::lasting(place, why);
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(refuse("it names no bucket; write s3://BUCKET/PREFIX".into()));
        }
        let credentials = Credentials::from_env().ok_or_else(|| {
            refuse("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment of the program".into())
        })?;
        let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
        let endpoint = variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL"));
        // The buckets of others than Amazon are paths below one address; of Amazon's, those with dots have no certificate.
        let style =
            if endpoint.is_some() || bucket.contains('.') { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let region = match (region, &endpoint) {
            (Some(region), _) => region,
            (None, Some(_)) => "us-east-1".into(),
            (None, None) => return Err(refuse("set AWS_REGION, for example eu-central-1".into())),
        };
        let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let address = endpoint
            .parse::<url::Url>()
            .map_err(|e| refuse(format!("AWS_ENDPOINT_URL is `{endpoint}`: {e}")))?;
        let host = address.host_str().unwrap_or_default();
        let here = ["localhost", "127.0.0.1", "[::1]"].contains(&host);
        if address.scheme() != "https" && !here {
            return Err(refuse(format!(
                "AWS_ENDPOINT_URL is `{endpoint}`: transactions go over TLS only; write https://…"
            )));
        }
        let bucket =
            Bucket::new(address, style, bucket.to_string(), region).map_err(|e| refuse(e.to_string()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
        if let Some(path) = variable("AWS_CA_BUNDLE").or_else(|| variable("SSL_CERT_FILE")) {
            tls = tls.root_certs(certificates(&path).map_err(|why| refuse(format!("`{path}`: {why}")))?);
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .timeout_per_write(Some(PATIENCE))
            .user_agent(concat!("manumit/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls.build())
            .build()
            .new_agent();
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(S3 { bucket, credentials, prefix, agent })
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(crate) fn put(&self, key: &str, body: impl AsSendBody) -> Result<(), Fault> {
        let key = self.key(key);
        let url = self.bucket.put_object(Some(&self.credentials), &key).sign(SIGNED_FOR);
        good(self.agent.put(url.as_str()).send(body)?).map(drop)
    }

    /// False when there is one. `body` gives the bytes anew: a store that knows no conditions is asked a second time.
    pub(crate) fn put_new<B: AsSendBody>(
        &self,
        key: &str,
        body: impl Fn() -> Result<B, Fault>,
    ) -> Result<bool, Fault> {
        let whole = self.key(key);
        let mut action = self.bucket.put_object(Some(&self.credentials), &whole);
        action.headers_mut().insert("if-none-match", "*");
        let url = action.sign(SIGNED_FOR);
        let response = self.agent.put(url.as_str()).header("if-none-match", "*").send(body()?)?;
        match response.status().as_u16() {
            // 409: another one is being written.
            409 | 412 => Ok(false),
            501 => self.put(key, body()?).map(|()| true),
            _ => good(response).map(|_| true),
        }
    }

    pub(crate) fn read(&self, key: &str, to: &mut impl Write) -> Result<bool, Fault> {
        let key = self.key(key);
        let url = self.bucket.get_object(Some(&self.credentials), &key).sign(SIGNED_FOR);
        let response = self.agent.get(url.as_str()).call()?;
        if response.status() == 404 {
            // That there is no such bucket is another thing.
            return match said(response) {
                (_, text) if text.contains("NoSuchKey") || text.is_empty() => Ok(false),
                (status, text) => Err(refused(status, &text)),
            };
        }
        let mut response = good(response)?;
        let told = response.body().content_length();
        let copied = std::io::copy(&mut response.body_mut().as_reader(), to)?;
        match told {
            Some(told) if told != copied => {
                Err(Fault { why: format!("{copied} of {told} bytes came"), may_pass: true })
            }
            _ => Ok(true),
        }
    }

    pub(crate) fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, Fault> {
        let mut found = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut action = self.bucket.list_objects_v2(Some(&self.credentials));
            action.with_prefix(self.key(prefix));
            if let Some(next) = &next {
                action.with_continuation_token(next.as_str());
            }
            let mut response = good(self.agent.get(action.sign(SIGNED_FOR).as_str()).call()?)?;
            let text = response.body_mut().with_config().limit(LIST_BYTES).read_to_string()?;
            let page = ListObjectsV2::parse_response(&text).map_err(|e| Fault {
                why: format!("its list of objects cannot be read: {e}"),
                may_pass: false,
            })?;
            for object in page.contents {
                if let Some(key) = object.key.strip_prefix(&self.prefix) {
                    found.push((key.to_string(), object.size.unwrap_or(0)));
                }
            }
            match page.next_continuation_token {
                Some(token) => next = Some(token),
                None => return Ok(found),
            }
        }
    }

    pub(crate) fn delete(&self, key: &str) -> Result<(), Fault> {
        let key = self.key(key);
        let url = self.bucket.delete_object(Some(&self.credentials), &key).sign(SIGNED_FOR);
        good(self.agent.delete(url.as_str()).call()?).map(drop)
    }
}

fn certificates(path: &str) -> Result<RootCerts, String> {
    let text = std::fs::read(path).map_err(|e| e.to_string())?;
    let mut found: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item.map_err(|e| e.to_string())? {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err("it holds no certificate; give a PEM file".into());
    }
    Ok(RootCerts::new_with_certs(&found))
}

/// The answer, if the store did what was asked.
fn good(response: Response<Body>) -> Result<Response<Body>, Fault> {
    if response.status().is_success() {
        return Ok(response);
    }
    let (status, text) = said(response);
    Err(refused(status, &text))
}

fn said(mut response: Response<Body>) -> (u16, String) {
    let status = response.status().as_u16();
    // A fault without words is told by its number.
    let text = response.body_mut().with_config().limit(FAULT_BYTES).lossy_utf8(true).read_to_string();
    (status, text.unwrap_or_default())
}

/// Keys that are wrong stay wrong, and so does a bucket that is not there; a store that is busy or broken may mend.
fn refused(status: u16, text: &str) -> Fault {
    let between = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        rest.split_once(&format!("</{tag}>")).map(|(words, _)| words)
    };
    let code = between("Code").unwrap_or("no code");
    let words = between("Message").unwrap_or("no message");
    let mend = match code {
        "NoSuchBucket" => "; make the bucket first",
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" => {
            "; look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        }
        "AccessDenied" => "; the key may lack the right to read, write, list or delete there",
        _ => "",
    };
    Fault {
        why: format!("the store answered {status} {code}: {words}{mend}"),
        may_pass: status >= 500 || status == 408 || status == 429,
    }
}

impl From<ureq::Error> for Fault {
    fn from(error: ureq::Error) -> Fault {
        let may_pass = !matches!(error, ureq::Error::BadUri(_) | ureq::Error::Tls(_));
        Fault { why: error.to_string(), may_pass }
    }
}
