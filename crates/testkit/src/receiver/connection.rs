//! Connections of a receiver: HTTP/1 by hand, over TCP or TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, crypto, pki_types::PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use super::{Answer, Behaviour, Received, Shared};

const CHUNK_BYTES: usize = 8 * 1024;
const MORE_THAN_IS_SENT: usize = 1_000_000_000;
/// From one byte to the next, where a byte comes at a time.
const DRIP_INTERVAL: Duration = Duration::from_millis(100);
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Who a receiver is in TLS.
pub(super) struct Identity {
    pub(super) acceptor: TlsAcceptor,
    pub(super) root_pem: String,
}

impl Identity {
    #[expect(clippy::expect_used, reason = "a test without a certificate cannot go on")]
    pub(super) fn new() -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a configuration");
        Self { acceptor: TlsAcceptor::from(Arc::new(config)), root_pem: made.cert.pem() }
    }
}

/// A connection whose socket can be reached.
trait Connection: AsyncRead + AsyncWrite + Unpin {
    fn socket(&self) -> &TcpStream;
}

impl Connection for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Connection for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Takes a connection's requests, one after the other, until one of the two sides ends it.
pub(super) async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, shared: Shared) -> io::Result<()> {
    match tls {
        Some(tls) => exchange(tls.accept(stream).await?, shared).await,
        None => exchange(stream, shared).await,
    }
}

async fn exchange(stream: impl Connection, shared: Shared) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await? {
        match shared.take(request).await {
            Behaviour::Answer(answer) => write(&mut stream, &answer).await?,
            behaviour => return misbehave(stream.get_mut(), behaviour).await,
        }
    }
    Ok(())
}

async fn misbehave(stream: &mut impl Connection, behaviour: Behaviour) -> io::Result<()> {
    let announced = format!("HTTP/1.1 200 OK\r\nContent-Length: {MORE_THAN_IS_SENT}\r\n\r\n");
    match behaviour {
        Behaviour::Answer(answer) => write(stream, &answer).await?,
        // Whoever serves it has answered.
        Behaviour::Serve(_) => {}
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Reset => return stream.socket().set_zero_linger(),
        Behaviour::Close => {}
        Behaviour::HalfAHead => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-").await?,
        Behaviour::HalfABody => stream.write_all(format!("{announced}half of").as_bytes()).await?,
        Behaviour::Gibberish => stream.write_all(b"220 mail.example.com ESMTP\r\n").await?,
        Behaviour::BodyWithoutHead => stream.write_all(b"<html>hello</html>").await?,
        Behaviour::EndlessHead => endlessly(stream, "HTTP/1.1 200 OK\r\n", &filler()).await?,
        Behaviour::DrippingHead => drip(stream, "HTTP/1.1 200 OK\r\nx-filler: ", "x").await?,
        Behaviour::EndlessContinue => endlessly(stream, "", &CONTINUE.repeat(CHUNK_BYTES / CONTINUE.len())).await?,
        Behaviour::EndlessBody => endlessly(stream, &announced, &"x".repeat(CHUNK_BYTES)).await?,
        Behaviour::DrippingBody => drip(stream, &announced, "x").await?,
        Behaviour::EndlessExtension => endlessly(stream, &format!("{CHUNKED}5;"), &"x".repeat(CHUNK_BYTES)).await?,
        Behaviour::EndlessTrailers => endlessly(stream, &format!("{CHUNKED}0\r\n"), &filler()).await?,
        Behaviour::StallAfter(bytes) => {
            stream.write_all(announced.as_bytes()).await?;
            stream.write_all(&vec![b'x'; bytes]).await?;
            stream.flush().await?;
            std::future::pending().await
        }
    }
    stream.shutdown().await
}

/// A header as long as a chunk.
fn filler() -> String {
    format!("x-filler: {}\r\n", "x".repeat(CHUNK_BYTES))
}

async fn endlessly(stream: &mut impl Connection, begin: &str, chunk: &str) -> io::Result<()> {
    stream.write_all(begin.as_bytes()).await?;
    loop {
        stream.write_all(chunk.as_bytes()).await?;
    }
}

async fn drip(stream: &mut impl Connection, begin: &str, drop: &str) -> io::Result<()> {
    stream.write_all(begin.as_bytes()).await?;
    let mut drops = tokio::time::interval(DRIP_INTERVAL);
    loop {
        drops.tick().await;
        stream.write_all(drop.as_bytes()).await?;
        stream.flush().await?;
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), answer: &Answer) -> io::Result<()> {
    let mut bytes = format!("HTTP/1.1 {} As Told\r\n", answer.status);
    for (name, value) in &answer.headers {
        bytes.push_str(&format!("{name}: {value}\r\n"));
    }
    // An answer of 204 or 304 has no body, and none of its length either.
    if !matches!(answer.status, 204 | 304) {
        bytes.push_str(&format!("Content-Length: {}\r\n", answer.body.len()));
    }
    let bytes = [bytes.as_bytes(), b"\r\n", &answer.body].concat();
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// The next request, whole; none at the end of the connection.
async fn read(stream: &mut BufReader<impl Connection>) -> io::Result<Option<Received>> {
    let Some(first) = read_line(stream).await? else { return Ok(None) };
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = HeaderMap::new();
    while let Some((name, value)) = read_line(stream).await?.as_deref().and_then(|line| line.split_once(": ")) {
        let name = HeaderName::try_from(name).map_err(io::Error::other)?;
        headers.append(name, HeaderValue::try_from(value).map_err(io::Error::other)?);
    }
    let length = headers.get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    Ok(Some(Received { method, path, headers, body: body.into(), answered: None }))
}

async fn read_line(stream: &mut BufReader<impl Connection>) -> io::Result<Option<String>> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).await?;
    Ok((read > 0).then(|| line.trim_end().to_owned()))
}
