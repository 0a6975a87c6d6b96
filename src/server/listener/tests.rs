use axum::routing::any;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::server::config::TlsFiles;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

/// A bare HTTP/2 connection (RFC 9113 §4.1).
struct Client(TcpStream);

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let mut client = Self(TcpStream::connect(address).await.unwrap());
        client.0.write_all(PREFACE).await.unwrap();
        client.send(SETTINGS, 0, 0, &[]).await;
        client
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.0.write_all(&[&head, payload].concat()).await.unwrap();
    }

    /// `POST http://test/` without a body, in HPACK's static table (RFC 7541 appendix A).
    async fn request(&mut self, stream: u32) {
        self.send(HEADERS, 5, stream, b"\x83\x86\x84\x01\x04test").await;
    }

    /// Answers PINGs until another frame of this kind comes; its payload, or `None` at the end.
    async fn until(&mut self, wanted: u8) -> Option<Vec<u8>> {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut payload).await.ok()?;
            match (head[3], head[4]) {
                (kind, _) if kind == wanted => return Some(payload),
                (PING, 0) => self.send(PING, 1, 0, &payload).await,
                _ => {}
            }
        }
    }
}

const MILLISECOND: Duration = Duration::from_millis(1);

fn listener(router: Router) -> Listener {
    let mut listener = Listener::bind(([127, 0, 0, 1], 0).into(), router, Stages::default()).unwrap();
    listener.timeouts =
        Timeouts { first_request: 250 * MILLISECOND, idle: 500 * MILLISECOND, farewell: 250 * MILLISECOND };
    listener
}

fn run(listener: Listener) -> SocketAddr {
    let address = listener.address().unwrap();
    tokio::spawn(listener.run());
    address
}

#[tokio::test]
async fn an_http_2_connection_that_only_answers_pings_is_closed() {
    let listener = listener(Router::new().route("/", any(|| async {})));
    let mut client = Client::connect(run(listener)).await;
    for stream in [1, 3, 5, 7] {
        tokio::time::sleep(200 * MILLISECOND).await;
        client.request(stream).await;
        assert!(client.until(HEADERS).await.is_some(), "a used connection stays");
    }
    let start = Instant::now();
    assert!(client.until(GOAWAY).await.is_some());
    assert_eq!(client.until(HEADERS).await, None, "and ends");
    assert!((400..3000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn one_that_is_told_to_end_and_answers_nothing_is_cut_off() {
    let listener = listener(Router::new().route("/", any(|| async {})));
    let mut client = Client::connect(run(listener)).await;
    client.request(1).await;
    let start = Instant::now();
    let mut rest = Vec::new();
    let _ = client.0.read_to_end(&mut rest).await;
    assert!((600..3000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn more_requests_than_can_be_served_at_a_time_are_told_to_come_again() {
    let mut listener = listener(Router::new().route("/", any(std::future::pending::<()>)));
    listener.requests = Arc::new(Semaphore::new(1));
    let mut client = Client::connect(run(listener)).await;
    client.request(1).await;
    client.request(3).await;
    let answer = client.until(HEADERS).await.unwrap();
    // `:status: 503`, which the static table has no entry for, as hyper writes it.
    assert!(answer.starts_with(b"\x48\x83\x6c\x0c\xff"), "{answer:?}");
}
#[tokio::test]
async fn a_handshake_that_is_never_finished_leaves_its_place_to_the_next_client() {
    let folder = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["door".to_owned()]).unwrap();
    let files = TlsFiles { certificate: folder.path().join("tls.crt"), key: folder.path().join("tls.key") };
    std::fs::write(&files.certificate, pair.cert.pem()).unwrap();
    std::fs::write(&files.key, pair.signing_key.serialize_pem()).unwrap();
    let tls = LiveTls::load(files).unwrap();
    let mut listener = listener(Router::new()).secured(Some(Arc::new(tls)));
    listener.slots = Arc::new(Semaphore::new(1));
    let (address, start) = (run(listener), Instant::now());
    let mut clients =
        [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
    for (client, range) in clients.iter_mut().zip([200..450, 450..3000]) {
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "closed");
        assert!(range.contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    }
}
