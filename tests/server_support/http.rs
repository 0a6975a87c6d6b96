//! A client that opens a connection for each request and hides nothing.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// Sends bytes and reads until the server closes.
pub fn exchange(address: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

pub fn call(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<Answer> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.extend([*name, ": ", *value, "\r\n"]);
    }
    request.push_str("\r\n");
    parse(&exchange(address, request.as_bytes())?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no HTTP answer"))
}

pub fn parse(answer: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    // A body that was cut short is no answer.
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.parse::<usize>());
    if length.is_some_and(|length| length != Ok(body.len())) {
        return None;
    }
    Some(Answer { status, headers, body: body.to_owned() })
}

pub fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    call(address, "GET", path, &[])
}

pub fn basic(email: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{email}:{password}")))
}

pub fn login(address: SocketAddr, email: &str, password: &str) -> io::Result<Answer> {
    call(address, "POST", "/login", &[("Authorization", &basic(email, password)), ("Content-Length", "0")])
}

pub fn validate(address: SocketAddr, token: &str) -> io::Result<Answer> {
    call(
        address,
        "POST",
        "/validate",
        &[("Authorization", &format!("Bearer {token}")), ("Content-Length", "0")],
    )
}

pub fn logout(address: SocketAddr, token: &str) -> io::Result<Answer> {
    call(
        address,
        "POST",
        "/logout",
        &[("Authorization", &format!("Bearer {token}")), ("Content-Length", "0")],
    )
}

/// Calls with a body.
pub fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Answer> {
    let length = body.len().to_string();
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
    for (name, value) in headers.iter().copied().chain([("Content-Length", length.as_str())]) {
        request.extend([name, ": ", value, "\r\n"]);
    }
    request.extend(["\r\n", body]);
    parse(&exchange(address, request.as_bytes())?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no HTTP answer"))
}

/// Asks for another password, in a body of this media type.
pub fn password(
    address: SocketAddr,
    (email, password): (&str, &str),
    media_type: &str,
    body: &str,
) -> io::Result<Answer> {
    let authorization = basic(email, password);
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", media_type)];
    send(address, "POST", "/password", &headers, body)
}
