//! A TCP proxy between server and database: it can cut every connection, refuse new ones, let those
//! that are open fall silent, and tell after how many messages of the client to call somebody.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

type Call = Box<dyn FnOnce() + Send>;

struct Shared {
    target: SocketAddr,
    open: AtomicBool,
    stop: AtomicBool,
    /// Counts up with each silence; connections of an earlier count forward nothing more.
    silences: AtomicUsize,
    streams: Mutex<Vec<TcpStream>>,
    messages: AtomicUsize,
    at: AtomicUsize,
    call: Mutex<Option<Call>>,
}

pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    pub fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target,
            open: AtomicBool::new(true),
            stop: AtomicBool::new(false),
            silences: AtomicUsize::new(0),
            streams: Mutex::default(),
            messages: AtomicUsize::new(0),
            at: AtomicUsize::new(usize::MAX),
            call: Mutex::default(),
        });
        let proxy = Self { address, shared: Arc::clone(&shared) };
        thread::spawn(move || {
            for client in listener.incoming() {
                if shared.stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(client) = client else { continue };
                if shared.open.load(Ordering::SeqCst) {
                    join(&shared, client);
                }
            }
        });
        proxy
    }

    /// Ends every connection; new ones are closed at once.
    pub fn cut(&self) {
        self.shared.open.store(false, Ordering::SeqCst);
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Keeps every open connection open and forwards nothing on it ever again, as after a power cut
    /// of the other side; new ones work.
    pub fn silence(&self) {
        self.shared.silences.fetch_add(1, Ordering::SeqCst);
    }

    pub fn mend(&self) {
        self.shared.open.store(true, Ordering::SeqCst);
    }

    /// Calls once when the client has sent `messages` more messages and the last was answered.
    pub fn call_after(&self, messages: usize, call: impl FnOnce() + Send + 'static) {
        *self.shared.call.lock().unwrap() = Some(Box::new(call));
        self.shared.messages.store(0, Ordering::SeqCst);
        self.shared.at.store(messages, Ordering::SeqCst);
    }

    /// How many messages the client has sent since [`Proxy::call_after`].
    pub fn messages(&self) -> usize {
        self.shared.messages.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        self.cut();
    }
}

fn join(shared: &Arc<Shared>, client: TcpStream) {
    let Ok(server) = TcpStream::connect(shared.target) else { return };
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap();
        shared.streams.lock().unwrap().push(stream.try_clone().unwrap());
    }
    let (from_client, to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let silences = shared.silences.load(Ordering::SeqCst);
    let requests = Arc::clone(shared);
    thread::spawn(move || {
        pump(from_client, to_server, || {
            requests.messages.fetch_add(1, Ordering::SeqCst);
            requests.silences.load(Ordering::SeqCst) == silences
        });
    });
    let answers = Arc::clone(shared);
    thread::spawn(move || {
        pump(server, client, || {
            if answers.messages.load(Ordering::SeqCst) >= answers.at.load(Ordering::SeqCst)
                && let Some(call) = answers.call.lock().unwrap().take()
            {
                call();
                // What was answered must not get through any more.
                thread::sleep(Duration::from_millis(20));
            }
            answers.silences.load(Ordering::SeqCst) == silences
        });
    });
}

/// Forwards each message that `on_message` lets through.
fn pump(mut from: TcpStream, mut to: TcpStream, on_message: impl Fn() -> bool) {
    let mut buffer = [0; 16_384];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if on_message() && to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
