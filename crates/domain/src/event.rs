//! Events as trackers send them, read as Plausible reads them.
//!
//! An [`Event`] cannot be wrong: what Plausible would refuse is a [`Rejection`] here, what it would ignore is ignored. The
//! module never knows about sites or visitors; the event's time is the server's and comes later.

mod sent;

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::Number;

use crate::source;
use sent::{Field, FieldName, Object, Sent};

/// The name of a pageview.
pub const PAGEVIEW: &str = "pageview";
/// The name of the system event that reports scroll depth and engagement time.
pub const ENGAGEMENT: &str = "engagement";
/// What a URL without a host is recorded under.
pub const NO_HOST: &str = "(none)";

const MAX_NAME_CHARS: usize = 120;
const MAX_URL_BYTES: usize = 2_000;
const MAX_REFERRER_CHARS: usize = 2_000;
const MAX_DOMAINS: usize = 100;
/// Those that stand there several times are counted.
const MAX_LISTED_DOMAINS: usize = 1_000;
const MAX_PROPS: usize = 30;
const MAX_PROP_KEY_BYTES: usize = 300;
const MAX_PROP_VALUE_BYTES: usize = 2_000;
const MAX_ENGAGEMENT_MS: u64 = 30 * 24 * 60 * 60 * 1_000;
const MAX_AMOUNT_CHARS: usize = 40;
const MAX_SCROLL_DEPTH: u64 = 100;

/// Custom events of Plausible's own trackers that carry the page they happened on.
const NAMES_WITH_PATH: [&str; 3] = ["404", "WP Form Completions", "Form: Submission"];

/// Something a visitor did.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `pageview`, `engagement` or a custom event's name.
    pub name: String,
    /// The domains of the sites it counts for, without `www.`, each once; at least one.
    pub domains: Vec<String>,
    /// The host of the page, lower case, without `www.`, or [`NO_HOST`].
    pub hostname: String,
    /// The decoded path of the page, with its fragment where hashes are pages.
    pub pathname: String,
    /// The host that referred here, without `www.`; for spam lists.
    pub referrer_host: Option<String>,
    /// Where a visit that starts with this event comes from; none when direct.
    pub source: Option<String>,
    /// Custom properties, at most 30.
    pub props: BTreeMap<String, String>,
    /// How far the page was scrolled, 0 to 100 percent.
    pub scroll_depth: Option<u8>,
    /// What the visitor paid.
    pub revenue: Option<Revenue>,
}

/// An amount of money, as it was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Revenue {
    /// A decimal number.
    pub amount: String,
    /// Three capital letters.
    pub currency: String,
}

/// Why an event is refused: messages by field, in Plausible's words where it has some.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// Messages by field.
    pub errors: BTreeMap<&'static str, Vec<&'static str>>,
}

impl Event {
    /// Reads the body of a request to the events API.
    pub fn parse(body: &[u8]) -> Result<Self, Rejection> {
        match serde_json::from_slice(body) {
            Ok(sent) => Self::read(&sent),
            Err(error) if error.is_data() => Err(Rejection::of("request", "must be a JSON object")),
            Err(_) => Err(Rejection::of("request", "must be JSON")),
        }
    }

    /// Whether the event is the system's own, which tells of a visit without being part of what is counted.
    pub fn is_engagement(&self) -> bool {
        self.name == ENGAGEMENT
    }

    /// Whether somebody looked at a page.
    pub fn is_pageview(&self) -> bool {
        self.name == PAGEVIEW
    }

    fn read(sent: &Sent<'_>) -> Result<Self, Rejection> {
        let mut rejection = Rejection::default();
        let name = rejection.take("event_name", read_name(sent));
        let url = rejection.take("url", read_url(sent));
        let hash_mode = rejection.take("hash_mode", read_hash_mode(sent)).unwrap_or_default();
        let props = rejection.take("props", read_props(sent)).unwrap_or_default();
        let host = url.as_ref().map(|url| strip_www(&url.host).to_owned()).unwrap_or_default();
        let domains = match &url {
            Some(_) => rejection.take("domain", read_domains(sent, &host)),
            None => None,
        };
        let scroll_depth = read_scroll_depth(sent);
        if name.as_deref() == Some(ENGAGEMENT) && scroll_depth.is_none() && read_engagement_ms(sent) == 0 {
            rejection.add("event_name", "engagement needs sd or e");
        }
        let (Some(name), Some(url), Some(domains), true) = (name, url, domains, rejection.errors.is_empty()) else {
            return Err(rejection);
        };
        let referrer_host = read_referrer(sent).and_then(source::host_of).map(|host| strip_www(&host).to_owned());
        let pathname = read_pathname(&url, hash_mode);
        let mut event = Self {
            source: source::of_visit(url.query, referrer_host.as_deref(), &host),
            hostname: if host.is_empty() { NO_HOST.to_owned() } else { host },
            referrer_host,
            pathname,
            domains,
            props,
            scroll_depth,
            revenue: read_revenue(sent),
            name,
        };
        if NAMES_WITH_PATH.contains(&event.name.as_str()) && !event.props.contains_key("path") {
            event.props.insert("path".to_owned(), event.pathname.clone());
        }
        Ok(event)
    }
}

impl Rejection {
    /// One message about one field.
    pub fn of(field: &'static str, message: &'static str) -> Self {
        Self { errors: BTreeMap::from([(field, vec![message])]) }
    }

    fn add(&mut self, field: &'static str, message: &'static str) {
        self.errors.entry(field).or_default().push(message);
    }

    fn take<T>(&mut self, field: &'static str, result: Result<T, &'static str>) -> Option<T> {
        result.map_err(|message| self.add(field, message)).ok()
    }
}

/// `host` without a leading `www.`.
pub fn strip_www(host: &str) -> &str {
    let host = host.trim();
    host.strip_prefix("www.").unwrap_or(host)
}

fn read_name(sent: &Sent<'_>) -> Result<String, &'static str> {
    let name = match sent.first(&[FieldName::N, FieldName::Name]) {
        None => return Err("can't be blank"),
        Some(Field::Text(name)) => name.as_ref().to_owned(),
        Some(Field::Number(number)) if is_integer(number) => number.to_string(),
        Some(_) => return Err("is invalid"),
    };
    match name.as_str() {
        name if name.trim().is_empty() => Err("can't be blank"),
        name if name.len() > MAX_NAME_CHARS && name.chars().count() > MAX_NAME_CHARS => Err("should be at most 120 character(s)"),
        "pageleave" => Ok(ENGAGEMENT.to_owned()),
        _ => Ok(name),
    }
}

fn is_integer(number: &Number) -> bool {
    number.is_i64() || number.is_u64()
}

/// A URL in its parts. Anything has parts, as in RFC 3986, appendix B: relative references are URLs without a host.
struct Url<'a> {
    host: String,
    path: &'a str,
    query: &'a str,
    fragment: Option<&'a str>,
}

fn read_url<'a>(sent: &'a Sent<'_>) -> Result<Url<'a>, &'static str> {
    let text = match sent.first(&[FieldName::U, FieldName::Url]) {
        None => return Err("is required"),
        Some(field) => field.as_text().ok_or("must be a valid url")?,
    };
    if text.len() > MAX_URL_BYTES {
        return Err("should be at most 2000 byte(s)");
    }
    let (rest, fragment) = split(text, '#');
    let (rest, query) = split(rest, '?');
    let (scheme, rest) = match rest.split_once(':') {
        Some((scheme, rest)) if !scheme.is_empty() && !scheme.contains('/') => (scheme, rest),
        _ => ("", rest),
    };
    if scheme.eq_ignore_ascii_case("data") {
        return Err("scheme is not allowed");
    }
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", rest),
    };
    Ok(Url { host: host_of_authority(authority), path, query: query.unwrap_or(""), fragment })
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// The host within `user@host:port`, lower case.
pub(crate) fn host_of_authority(authority: &str) -> String {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    let host = host.trim();
    if host.is_ascii() { host.to_ascii_lowercase() } else { host.to_lowercase() }
}

fn read_pathname(url: &Url<'_>, hash_mode: bool) -> String {
    let path = if url.path.is_empty() { "/" } else { url.path };
    let mut pathname = percent_decode_str(path).decode_utf8_lossy().trim_end().to_owned();
    if let (true, Some(fragment)) = (hash_mode, url.fragment) {
        pathname.push('#');
        pathname.push_str(&percent_decode_str(fragment).decode_utf8_lossy());
    }
    pathname
}

fn read_domains(sent: &Sent<'_>, host: &str) -> Result<Vec<String>, &'static str> {
    let listed = sent.first(&[FieldName::D, FieldName::Domain]).and_then(Field::as_text).unwrap_or(host);
    let mut domains: Vec<String> = Vec::new();
    for (index, domain) in listed.split(',').map(strip_www).filter(|domain| !domain.is_empty()).enumerate() {
        if index == MAX_LISTED_DOMAINS {
            return Err("should be at most 100 domain(s)");
        }
        if domains.iter().any(|known| *known == domain) {
            continue;
        }
        if domains.len() == MAX_DOMAINS {
            return Err("should be at most 100 domain(s)");
        }
        domains.push(domain.to_owned());
    }
    if domains.is_empty() { Err("can't be blank") } else { Ok(domains) }
}

fn read_hash_mode(sent: &Sent<'_>) -> Result<bool, &'static str> {
    match sent.first(&[FieldName::H, FieldName::HashMode]) {
        None => Ok(false),
        Some(Field::Number(number)) if is_integer(number) => Ok(number.as_i64() == Some(1)),
        Some(_) => Err("is invalid"),
    }
}

fn read_referrer<'a>(sent: &'a Sent<'_>) -> Option<&'a str> {
    let referrer = sent.first(&[FieldName::R, FieldName::Referrer])?.as_text()?;
    let end = referrer.char_indices().nth(MAX_REFERRER_CHARS).map_or(referrer.len(), |(index, _)| index);
    Some(&referrer[..end])
}

fn read_props(sent: &Sent<'_>) -> Result<BTreeMap<String, String>, &'static str> {
    let props = sent.first(&[FieldName::M, FieldName::Meta, FieldName::P, FieldName::Props]);
    let props = props.and_then(|props| props.read_object(texts)).unwrap_or_default();
    let fits = |(key, value): (&String, &String)| key.len() <= MAX_PROP_KEY_BYTES && value.len() <= MAX_PROP_VALUE_BYTES;
    if props.iter().all(fits) { Ok(props) } else { Err("keys should have at most 300 bytes and values at most 2000 bytes") }
}

/// The first entries that are texts or can be written as such; the last of a name counts.
fn texts(object: &Object<'_>) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for (key, value) in object.entries().filter(|(key, _)| !key.trim().is_empty()) {
        let text = match value {
            Some(Field::Text(text)) => text.clone().into_owned(),
            Some(Field::Bool(value)) => value.to_string(),
            Some(Field::Number(number)) => number.to_string(),
            Some(Field::Object(_) | Field::List) | None => String::new(),
        };
        if text.trim().is_empty() {
            texts.remove(key);
        } else if texts.len() < MAX_PROPS || texts.contains_key(key) {
            texts.insert(key.to_owned(), text);
        }
    }
    texts
}

fn read_scroll_depth(sent: &Sent<'_>) -> Option<u8> {
    let depth = match sent.get(FieldName::Sd)? {
        Field::Number(number) => number.as_u64()?,
        Field::Text(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    u8::try_from(depth.min(MAX_SCROLL_DEPTH)).ok()
}

fn read_engagement_ms(sent: &Sent<'_>) -> u64 {
    let milliseconds = match sent.get(FieldName::E) {
        Some(Field::Number(number)) => number.as_u64().unwrap_or(0),
        _ => 0,
    };
    if milliseconds < MAX_ENGAGEMENT_MS { milliseconds } else { 0 }
}

fn read_revenue(sent: &Sent<'_>) -> Option<Revenue> {
    sent.first(&[FieldName::Revenue, FieldName::Dollar])?.read_object(revenue)?
}

fn revenue(object: &Object<'_>) -> Option<Revenue> {
    let amount = match object.get("amount")? {
        Field::Number(number) => number.as_f64().map(|amount| amount.to_string())?,
        Field::Text(text) => text.trim().to_owned(),
        _ => return None,
    };
    let currency = object.get("currency")?.as_text()?.trim().to_uppercase();
    let valid = is_decimal(&amount) && is_currency(&currency);
    valid.then_some(Revenue { amount, currency })
}

/// Whether a text is a plain decimal number such as `-12.50`.
fn is_decimal(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let number = unsigned.split_once('.').map_or(digits(unsigned), |(whole, part)| digits(whole) && digits(part));
    number && text.len() <= MAX_AMOUNT_CHARS
}

/// Whether a text has the form of a currency code of ISO 4217.
pub fn is_currency(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn parse(value: &Value) -> Result<Event, Rejection> {
        Event::parse(value.to_string().as_bytes())
    }

    fn with(field: &str, value: Value) -> Value {
        let mut fields = json!({"n": "pageview", "u": "https://example.com/a", "d": "example.com"});
        fields[field] = value;
        fields
    }

    fn event(field: &str, value: Value) -> Event {
        parse(&with(field, value)).expect("an event")
    }

    #[test]
    fn of_properties_with_the_same_name_the_last_counts() {
        let cases = [
            (r#"{"a": "x", "a": "y"}"#, vec![("a", "y")]),
            (r#"{"a": "x", "b": true, "a": null}"#, vec![("b", "true")]),
            (r#"{"a": {"b": 1}, "a": 2.5}"#, vec![("a", "2.5")]),
            (r#""{\"a\": \"x\", \"a\": \"y\"}""#, vec![("a", "y")]),
            (r#""[1]""#, vec![]),
        ];
        for (props, expected) in cases {
            let body = format!(r#"{{"n": "Buy", "u": "https://example.com/", "p": {props}}}"#);
            let event = Event::parse(body.as_bytes()).expect("an event");
            let props: Vec<_> = event.props.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            assert_eq!(props, expected, "{body}");
        }
    }

    #[test]
    fn what_the_current_tracker_sends() {
        let event = parse(&json!({
            "n": "Signup", "v": 30, "u": "https://www.Example.com/join%20us/?utm_source=news", "d": "example.com",
            "r": "https://news.ycombinator.com/item?id=1", "p": {"plan": "pro"}, "i": true, "$": {"amount": 29.9, "currency": "eur"},
        }));
        let expected = Event {
            name: "Signup".to_owned(),
            domains: vec!["example.com".to_owned()],
            hostname: "example.com".to_owned(),
            pathname: "/join us/".to_owned(),
            referrer_host: Some("news.ycombinator.com".to_owned()),
            source: Some("news".to_owned()),
            props: BTreeMap::from([("plan".to_owned(), "pro".to_owned())]),
            scroll_depth: None,
            revenue: Some(Revenue { amount: "29.9".to_owned(), currency: "EUR".to_owned() }),
        };
        assert_eq!(event, Ok(expected));
    }

    #[test]
    fn names() {
        let long = "é".repeat(121);
        let cases = [
            (json!("Signup"), Ok("Signup")),
            (json!(404), Ok("404")),
            (json!("pageleave"), Err("engagement needs sd or e")),
            (json!(" "), Err("can't be blank")),
            (json!(null), Err("can't be blank")),
            (json!(false), Err("can't be blank")),
            (json!(1.5), Err("is invalid")),
            (json!({}), Err("is invalid")),
            (json!(long), Err("should be at most 120 character(s)")),
        ];
        for (value, expected) in cases {
            let result = parse(&with("n", value.clone()));
            match expected {
                Ok(name) => assert_eq!(result.expect("an event").name, name),
                Err(message) => assert_eq!(result, Err(Rejection::of("event_name", message)), "{value}"),
            }
        }
        assert_eq!(parse(&json!({"n": false, "name": "Long", "u": "https://a.com"})).expect("an event").name, "Long");
    }

    #[test]
    fn urls() {
        let long = format!("https://example.com/{}", "a".repeat(1_981));
        let cases = [
            ("https://example.com", Ok(("example.com", "/"))),
            ("https://EXAMPLE.com:8080/A/", Ok(("example.com", "/A/"))),
            ("https://user:pw@example.com/%E2%82%AC%20%20", Ok(("example.com", "/€"))),
            ("http://[::1]:80/x?y#z", Ok(("::1", "/x"))),
            ("/only/a/path", Ok((NO_HOST, "/only/a/path"))),
            ("file:///home/me.html", Ok((NO_HOST, "/home/me.html"))),
            ("https://example.com/%ff%zz", Ok(("example.com", "/\u{fffd}%zz"))),
            ("data:text/html,x", Err("scheme is not allowed")),
            ("DATA:text/html,x", Err("scheme is not allowed")),
            (&long, Err("should be at most 2000 byte(s)")),
        ];
        for (url, expected) in cases {
            let result = parse(&with("u", json!(url)));
            let parts = result.as_ref().map(|event| (event.hostname.as_str(), event.pathname.as_str()));
            match expected {
                Ok(expected) => assert_eq!(parts, Ok(expected), "{url}"),
                Err(message) => assert_eq!(parts, Err(&Rejection::of("url", message)), "{url}"),
            }
        }
        assert_eq!(parse(&with("u", json!(7))), Err(Rejection::of("url", "must be a valid url")));
        assert_eq!(parse(&with("u", json!(null))), Err(Rejection::of("url", "is required")));
    }

    #[test]
    fn domains() {
        let many = (0..101).map(|number| format!("{number}.com")).collect::<Vec<_>>().join(",");
        let cases = [
            (json!("www.a.com, b.com,a.com,,"), Ok(vec!["a.com", "b.com"])),
            (json!(5), Ok(vec!["example.com"])),
            (json!(null), Ok(vec!["example.com"])),
            (json!(" "), Err("can't be blank")),
            (json!(many), Err("should be at most 100 domain(s)")),
        ];
        for (value, expected) in cases {
            match (parse(&with("d", value)), expected) {
                (Ok(event), Ok(expected)) => assert_eq!(event.domains, expected),
                (result, Err(message)) => assert_eq!(result, Err(Rejection::of("domain", message))),
                (result, Ok(expected)) => panic!("{result:?} instead of {expected:?}"),
            }
        }
        assert_eq!(parse(&json!({"n": "x", "u": "/path"})), Err(Rejection::of("domain", "can't be blank")));
    }

    #[test]
    fn properties() {
        let props = json!({"text": "a", "number": 1.50, "yes": true, "no": false, "null": null, "list": [1], "map": {}, "blank": " ", " ": "x"});
        let expected = [("no", "false"), ("number", "1.5"), ("text", "a"), ("yes", "true")];
        let expected: BTreeMap<_, _> = expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        for field in ["m", "meta", "p", "props"] {
            assert_eq!(event(field, props.clone()).props, expected);
            assert_eq!(event(field, json!(props.to_string())).props, expected);
        }
        assert!(event("p", json!("not JSON")).props.is_empty());
        assert!(event("p", json!([1])).props.is_empty());
        let many: Map<_, _> = (0..40).map(|number| (format!("k{number}"), json!("v"))).collect();
        assert_eq!(event("p", Value::Object(many)).props.len(), 30);
        let message = "keys should have at most 300 bytes and values at most 2000 bytes";
        for props in [json!({"k": "v".repeat(2_001)}), json!({"k".repeat(301): "v"})] {
            assert_eq!(parse(&with("p", props)), Err(Rejection::of("props", message)));
        }
    }

    #[test]
    fn hash_mode() {
        let fields = |h: Value| json!({"n": "pageview", "u": "https://a.com/x#/page%201", "h": h});
        assert_eq!(parse(&fields(json!(1))).expect("an event").pathname, "/x#/page 1");
        assert_eq!(parse(&fields(json!(0))).expect("an event").pathname, "/x");
        assert_eq!(parse(&fields(json!(null))).expect("an event").pathname, "/x");
        assert_eq!(parse(&fields(json!("1"))), Err(Rejection::of("hash_mode", "is invalid")));
        assert_eq!(parse(&fields(json!(true))), Err(Rejection::of("hash_mode", "is invalid")));
    }

    #[test]
    fn engagement_needs_a_depth_or_a_time() {
        let fields = |sd: Value, e: Value| json!({"n": "engagement", "u": "https://a.com/", "sd": sd, "e": e});
        let depth = |sd: Value, e: Value| parse(&fields(sd, e)).map(|event| event.scroll_depth);
        let refused = Err(Rejection::of("event_name", "engagement needs sd or e"));
        assert_eq!(depth(json!(40), json!(0)), Ok(Some(40)));
        assert_eq!(depth(json!("101"), json!(null)), Ok(Some(100)));
        assert_eq!(depth(json!(null), json!(1)), Ok(None));
        assert_eq!(depth(json!(-1), json!(0)), refused);
        assert_eq!(depth(json!(null), json!(MAX_ENGAGEMENT_MS)), refused);
    }

    #[test]
    fn revenue() {
        let revenue = |value: Value| event("$", value).revenue.map(|revenue| revenue.amount);
        assert_eq!(revenue(json!({"amount": "1299.00", "currency": "USD"})).as_deref(), Some("1299.00"));
        assert_eq!(revenue(json!({"amount": 1e21, "currency": "USD"})).as_deref(), Some("1000000000000000000000"));
        assert_eq!(revenue(json!(r#"{"amount": -3, "currency": "usd"}"#)).as_deref(), Some("-3"));
        for bad in [
            json!({"amount": "1e5", "currency": "USD"}),
            json!({"amount": "1.", "currency": "USD"}),
            json!({"amount": 1, "currency": "dollar"}),
            json!({"amount": 1}),
            json!(5),
        ] {
            assert_eq!(revenue(bad), None);
        }
        let both = json!({"n": "x", "u": "https://a.com", "revenue": {"amount": 1, "currency": "USD"}, "$": {"amount": 2, "currency": "USD"}});
        assert_eq!(parse(&both).expect("an event").revenue.map(|revenue| revenue.amount).as_deref(), Some("1"));
    }

    #[test]
    fn forms_without_a_path_get_their_page() {
        let event = event("n", json!("404"));
        assert_eq!(event.props["path"], "/a");
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let rejection = parse(&json!({"u": "data:x", "h": "x", "d": ""})).expect_err("mistakes");
        assert_eq!(rejection.errors.keys().copied().collect::<Vec<_>>(), ["event_name", "hash_mode", "url"]);
        for bad in ["{", "", "{}x", r#"{"n": "a", "x": [1, }"#, "{\"n\": \"\\ud800\"}"] {
            assert_eq!(Event::parse(bad.as_bytes()), Err(Rejection::of("request", "must be JSON")), "{bad}");
        }
        assert_eq!(Event::parse(br#"{"n": 1, "n": "b", "u": "https://a.com"}"#).expect("an event").name, "b");
        assert_eq!(Event::parse(b"[]"), Err(Rejection::of("request", "must be a JSON object")));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,40}".prop_map(Value::from),
            "[a-z]{0,6}:?/{0,3}[a-z@:.\\[\\]]{0,12}[/?#%&=a-z0-9]{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".{0,8}", inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Event::parse(&body);
        }

        #[test]
        fn no_fields_panic_and_events_keep_their_limits(values in prop::collection::vec(any_json(), 17)) {
            let names = ["n", "name", "u", "url", "d", "domain", "r", "m", "p", "h", "i", "sd", "e", "v", "revenue", "$", "x"];
            let fields: Map<_, _> = names.iter().map(|name| (*name).to_owned()).zip(values).collect();
            if let Ok(event) = parse(&Value::Object(fields)) {
                prop_assert!(event.name.chars().count() <= 120 && !event.domains.is_empty());
                prop_assert!(event.props.len() <= 31 && event.scroll_depth.is_none_or(|depth| depth <= 100));
            }
        }
    }
}
