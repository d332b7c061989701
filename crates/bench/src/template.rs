//! Requests in bytes, made before the clock runs.

use serde_json::Value;

/// Stands for the request's number, in ten digits, wherever a request has it.
pub(crate) const NUMBER: &str = "##########";

/// A request whose number is set anew before each sending.
#[derive(Clone)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    slots: Vec<usize>,
}

impl Template {
    /// An event of `name` on the site of `domain`, by a visitor of its number's own, with the number as property `seq`.
    pub(crate) fn event(domain: &str, name: &str) -> Self {
        let user_agent = format!("user-agent: {}", user_agent(NUMBER));
        let body = format!(r#"{{"n":"{name}","u":"https://{domain}/","d":"{domain}","p":{{"seq":"{NUMBER}"}}}}"#);
        Self::new("POST /api/event", &["content-type: text/plain", &user_agent], &body)
    }

    /// A request to the REST API, such as `GET /api/sites`; `body` is null where there is none.
    pub(crate) fn rest(request: &str, key: &str, body: &Value) -> Self {
        let authorization = format!("authorization: Bearer {key}");
        match body {
            Value::Null => Self::new(request, &[&authorization], ""),
            body => Self::new(request, &[&authorization, "content-type: application/json"], &body.to_string()),
        }
    }

    /// A page, for somebody who is signed in.
    pub(crate) fn page(path: &str, cookie: &str) -> Self {
        Self::new(&format!("GET {path}"), &[&format!("cookie: {cookie}")], "")
    }

    /// A statement for ClickHouse, in a database or in none.
    pub(crate) fn statement(database: &str, sql: &str) -> Self {
        let database = if database.is_empty() { String::new() } else { format!("?database={database}") };
        Self::new(&format!("POST /{database}"), &["content-type: text/plain"], sql)
    }

    fn new(request: &str, headers: &[&str], body: &str) -> Self {
        let headers = headers.join("\r\n");
        let text = format!("{request} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        Self { slots: text.match_indices(NUMBER).map(|(at, _)| at).collect(), bytes: text.into_bytes() }
    }

    /// The request's bytes, with `number` in.
    pub(crate) fn numbered(&mut self, number: u64) -> &[u8] {
        for slot in &self.slots {
            write_digits(&mut self.bytes[*slot..slot + NUMBER.len()], number);
        }
        &self.bytes
    }

    /// The request's first line, for messages.
    pub(crate) fn first_line(&self) -> String {
        let line = self.bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
        String::from_utf8_lossy(line).into_owned()
    }
}

/// A browser's user agent, one of many.
fn user_agent(build: &str) -> String {
    format!("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.{build} Safari/537.36")
}

fn write_digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789"[(number % 10) as usize];
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use bellwether_domain::bot;
    use bellwether_domain::event::Event;

    use super::*;

    #[test]
    fn an_event_carries_its_number_twice() {
        let mut template = Template::event("site.example", "Signup");
        assert_eq!(template.first_line(), "POST /api/event HTTP/1.1");
        template.numbered(9_999_999_999);
        let text = String::from_utf8(template.numbered(1_234).to_vec()).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a body");
        assert!(head.contains("Chrome/126.0.0000001234 Safari") && head.ends_with(&format!("content-length: {}", body.len())));
        let event = Event::parse(body.as_bytes()).expect("an event");
        assert_eq!((event.name.as_str(), event.domains.as_slice()), ("Signup", ["site.example".to_owned()].as_slice()));
        assert_eq!(event.props["seq"], "0000001234");
    }

    #[test]
    fn visitors_are_no_bots() {
        for build in ["0000000000", "0000000007", "0000123456", "0000999999", "0001048576"] {
            assert!(!bot::is_bot(&user_agent(build)), "{build}");
        }
    }

    #[test]
    fn requests_without_a_body_say_so() {
        let mut template = Template::rest("GET /api/sites", "secret", &Value::Null);
        let expected = "GET /api/sites HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer secret\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(template.numbered(1), expected.as_bytes());
    }
}
