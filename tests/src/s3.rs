//! An S3-compatible server (moto) on a free loopback port, for tests.
//!
//! Python and its packages are found or installed by `tests/python.sh`. Objects are in the server's memory. It ends with the
//! test process, as the broker does: a shell holds it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server.
pub struct S3 {
    port: u16,
    _folder: tempfile::TempDir,
    shell: Child,
    stdin: Option<ChildStdin>,
    /// Process id of the server.
    pub id: u32,
}

const HOLD: &str = r#"
. tests/python.sh
"$python" -m moto.server -H 127.0.0.1 -p "$1" >"$2" 2>&1 &
server=$!
echo "$server" > "$3"
read -r _
kill -CONT "$server"
kill "$server"
wait "$server"
"#;

impl S3 {
    /// Starts a server with one bucket.
    ///
    /// # Panics
    /// When Python or the server do not work, with the end of the log.
    pub fn start(bucket: &str) -> S3 {
        let held = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = held.local_addr().expect("an address").port();
        drop(held);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (log, id) = (folder.path().join("log"), folder.path().join("id"));
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let mut shell = Command::new("bash")
            .args(["-c", HOLD, "bash", &port.to_string()])
            .args([&log, &id])
            .current_dir(root)
            .stdin(Stdio::piped())
            .spawn()
            .expect("bash runs");
        let stdin = shell.stdin.take();
        let mut server = S3 { port, _folder: folder, shell, stdin, id: 0 };
        // Packages may have to be installed first.
        let deadline = Instant::now() + Duration::from_secs(300);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let told = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(Instant::now() < deadline, "the object store did not start; its log:\n{told}");
            std::thread::sleep(Duration::from_millis(100));
        }
        let text = std::fs::read_to_string(&id).expect("the server's process id");
        server.id = text.trim().parse().expect("a process id");
        assert_eq!(server.ask("PUT", &format!("/{bucket}"), b"").0, 200);
        server
    }

    /// What a program must have in its environment to reach it.
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port)),
            ("AWS_ACCESS_KEY_ID", "test".into()),
            ("AWS_SECRET_ACCESS_KEY", "test".into()),
            ("AWS_REGION", "us-east-1".into()),
        ]
        .map(|(name, value)| (name.to_string(), value))
        .into()
    }

    /// An object's bytes.
    ///
    /// # Panics
    /// When there is none.
    pub fn get(&self, path: &str) -> Vec<u8> {
        let (status, body) = self.ask("GET", path, b"");
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        body
    }

    /// Replaces an object.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        assert_eq!(self.ask("PUT", path, bytes).0, 200);
    }

    /// Keys of a bucket.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let (_, body) = self.ask("GET", &format!("/{bucket}?list-type=2&max-keys=1000"), b"");
        let text = String::from_utf8_lossy(&body).into_owned();
        let mut keys: Vec<String> = text
            .split("<Key>")
            .skip(1)
            .filter_map(|part| part.split_once("</Key>").map(|(key, _)| key.to_string()))
            .collect();
        keys.sort();
        keys
    }

    /// One request; this server looks who asks, but not at signatures.
    fn ask(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the server answers");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\nContent-Length: {}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=none\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("it takes the request");
        stream.write_all(body).expect("it takes the body");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8_lossy(&answer[..end]);
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a status");
        (status, answer[end + 4..].to_vec())
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.shell.wait();
    }
}
