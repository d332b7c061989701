//! A connection to a server that costs as little as possible: HTTP/1.1, keep-alive, one request at a time.
//!
//! It reads what our servers answer, and refuses chunked bodies, which they do not send.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::failure::{Failure, Result};
use crate::template::Template;

const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// A connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer<'a> {
    /// Its status.
    pub(crate) status: u16,
    /// Its body.
    pub(crate) body: &'a [u8],
}

impl Connection {
    /// Connects to `address`.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096) })
    }

    /// Sends `template` with `number` and awaits the answer, which must have the status `expected`.
    pub(crate) async fn exchange(&mut self, template: &mut Template, number: u64, expected: u16) -> Result<Answer<'_>> {
        self.stream.write_all(template.numbered(number)).await?;
        let answer = self.read_answer().await?;
        if answer.status == expected {
            return Ok(answer);
        }
        let body = String::from_utf8_lossy(answer.body).into_owned();
        Err(Failure::Answer { request: template.first_line(), status: answer.status, body })
    }

    async fn read_answer(&mut self) -> Result<Answer<'_>> {
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(Failure::Http("the connection was closed"));
            }
            match Head::parse(&self.buffer)? {
                Some(head) if self.buffer.len() >= head.answer_bytes => {
                    return Ok(Answer { status: head.status, body: &self.buffer[head.head_bytes..head.answer_bytes] });
                }
                _ if self.buffer.len() > MAX_ANSWER_BYTES => return Err(Failure::Http("it is too long")),
                _ => {}
            }
        }
    }
}

/// What an answer's first lines say.
#[derive(Debug, PartialEq)]
struct Head {
    status: u16,
    head_bytes: usize,
    answer_bytes: usize,
}

impl Head {
    /// Reads the head, or nothing where it is not complete yet.
    fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = str::from_utf8(&bytes[..end]).map_err(|_| Failure::Http("its head is no text"))?;
        let (first, headers) = head.split_once("\r\n").unwrap_or((head, ""));
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|status| status.parse().ok());
        let status = status.ok_or(Failure::Http("it is no HTTP/1.1"))?;
        let head_bytes = end + 4;
        Ok(Some(Self { status, head_bytes, answer_bytes: head_bytes + body_bytes(headers)? }))
    }
}

fn body_bytes(headers: &str) -> Result<usize> {
    let mut bytes = 0;
    for (name, value) in headers.split("\r\n").filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            bytes = value.trim().parse().map_err(|_| Failure::Http("its length is no number"))?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Failure::Http("it is chunked"));
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let head = |status, head_bytes, answer_bytes| Some(Head { status, head_bytes, answer_bytes });
        let cases = [
            ("HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok", head(202, 44, 46)),
            ("HTTP/1.1 204 No Content\r\ndate: today\r\n\r\n", head(204, 40, 40)),
            ("HTTP/1.1 204 No Content\r\n\r\n", head(204, 27, 27)),
            ("HTTP/1.1 202 Accepted\r\nContent-Le", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Head::parse(text.as_bytes()).expect("a head"), expected, "{text}");
        }
        for bad in ["HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "\u{0}\r\n\r\n"] {
            assert!(Head::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
