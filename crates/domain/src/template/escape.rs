//! How values are written: so that none of them is anything but a value, whatever is in it.
//!
//! In JSON that depends on where a value stands, so the body that was written so far is followed: within quotes a value becomes a part
//! of that text, and elsewhere a value of its own. `<`, `>` and `&` are written as numbers, so that JSON may stand in a page as well.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use minijinja::value::{Object, ObjectRepr, Value, ValueKind};
use minijinja::{Error, ErrorKind, Output, State};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize as _;
use serde_json::ser::{CompactFormatter, Formatter};

/// A name that no template can write, by which a run is found.
pub(super) const RUN: &str = "\0";
/// How many bytes filters may read and write in a run.
const MAX_WORK_BYTES: usize = 4 * 1024 * 1024;
const MAX_CONTENT_TYPE_CHARS: usize = 100;
/// All but what RFC 3986 calls unreserved.
const IN_FORMS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const OUTSIDE: u8 = 0;
const WITHIN_QUOTES: u8 = 1;
const AFTER_BACKSLASH: u8 = 2;

/// What a body is, as its header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentType {
    text: String,
    escaping: Escaping,
}

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escaping {
    Json,
    Plain,
    Form,
}

impl Default for ContentType {
    fn default() -> Self {
        Self { text: "application/json".to_owned(), escaping: Escaping::Json }
    }
}

impl ContentType {
    /// Reads a content type of a kind that values can be written into. Errors: a sentence about it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let is_printable = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if !is_printable || text.len() > MAX_CONTENT_TYPE_CHARS {
            return Err("must be at most 100 printable ASCII characters");
        }
        let name = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/+-._".contains(&byte));
        let escaping = match name.as_str() {
            "application/json" => Escaping::Json,
            "text/plain" => Escaping::Plain,
            "application/x-www-form-urlencoded" => Escaping::Form,
            name if is_name && name.starts_with("application/") && name.ends_with("+json") => Escaping::Json,
            _ => {
                return Err(
                    "must be application/json, another application/…+json, text/plain or application/x-www-form-urlencoded",
                );
            }
        };
        Ok(Self { text: text.trim().to_owned(), escaping })
    }

    /// Text without any form.
    pub(crate) fn plain() -> Self {
        Self { text: "text/plain; charset=utf-8".to_owned(), escaping: Escaping::Plain }
    }

    /// As the header has it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether what is of it is JSON.
    pub fn is_json(&self) -> bool {
        self.escaping == Escaping::Json
    }

    pub(super) fn escaping(&self) -> Escaping {
        self.escaping
    }
}

/// One rendering: what has been written so far is in some place, and so much work is left.
#[derive(Debug)]
pub(super) struct Run {
    escaping: Escaping,
    place: AtomicU8,
    work_bytes: AtomicUsize,
}

impl Object for Run {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

impl Run {
    pub(super) fn new(escaping: Escaping) -> Self {
        Self { escaping, place: AtomicU8::new(OUTSIDE), work_bytes: AtomicUsize::new(MAX_WORK_BYTES) }
    }

    /// Takes what a filter reads or writes off what is left.
    pub(super) fn work(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
        let run = Self::of(state)?;
        let left = run.work_bytes.load(Ordering::Relaxed).checked_sub(bytes);
        let left = left.ok_or_else(|| failed(format!("its filters read and write more than {MAX_WORK_BYTES} bytes")))?;
        run.work_bytes.store(left, Ordering::Relaxed);
        Ok(())
    }

    fn of(state: &State<'_, '_>) -> Result<Arc<Self>, Error> {
        state.lookup(RUN).and_then(|run| run.downcast_object()).ok_or_else(|| failed("it is not run as it should be"))
    }

    fn follow(&self, written: &[u8]) {
        if self.escaping != Escaping::Json {
            return;
        }
        let place = written.iter().fold(self.place.load(Ordering::Relaxed), |place, byte| match (place, byte) {
            (OUTSIDE, b'"') => WITHIN_QUOTES,
            (OUTSIDE, _) | (WITHIN_QUOTES, b'"') => OUTSIDE,
            (WITHIN_QUOTES, b'\\') => AFTER_BACKSLASH,
            _ => WITHIN_QUOTES,
        });
        self.place.store(place, Ordering::Relaxed);
    }
}

fn failed(sentence: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, sentence.into())
}

/// What has been written so far, up to a limit.
pub(super) struct Body {
    written: Vec<u8>,
    most: usize,
    run: Arc<Run>,
}

impl Body {
    pub(super) fn new(run: Arc<Run>, most: usize) -> Self {
        Self { written: Vec::new(), most, run }
    }

    /// None where it is no text.
    pub(super) fn into_text(self) -> Option<String> {
        String::from_utf8(self.written).ok()
    }
}

impl io::Write for Body {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written.len() + bytes.len() > self.most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.run.follow(bytes);
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a value where it stands.
pub(super) fn write_value(output: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let run = Run::of(state)?;
    let written = match (run.escaping, run.place.load(Ordering::Relaxed)) {
        (Escaping::Json, OUTSIDE) => output.write_str(&json(value)?),
        (Escaping::Json, AFTER_BACKSLASH) => return Err(failed("a value can't stand behind a backslash")),
        (Escaping::Json, _) => {
            let quoted = json(&Value::from(words(value)?))?;
            output.write_str(quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default())
        }
        (Escaping::Plain, _) => output.write_str(&words(value)?),
        (Escaping::Form, _) => output.write_str(&percent_encoded(&words(value)?)),
    };
    written.map_err(Error::from)
}

/// A value as a part of a text: nothing for what is not there, and JSON for what has parts.
pub(super) fn words(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => Ok(String::new()),
        ValueKind::String => Ok(value.to_string()),
        _ => json(value),
    }
}

/// A value as JSON.
pub(super) fn json(value: &Value) -> Result<String, Error> {
    // A quotient is a whole number where it can be.
    if let (true, Some(whole)) = (value.is_number(), value.as_i64()) {
        return Ok(whole.to_string());
    }
    let mut json = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut json, Harmless(CompactFormatter));
    value.serialize(&mut serializer).map_err(|error| failed(format!("a value can't be written: {error}")))?;
    String::from_utf8(json).map_err(|_| failed("a value can't be written: it is no text"))
}

pub(super) fn percent_encoded(text: &str) -> String {
    utf8_percent_encode(text, IN_FORMS).to_string()
}

/// JSON that is harmless within a page.
struct Harmless(CompactFormatter);

impl Formatter for Harmless {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(index) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            self.0.write_string_fragment(writer, &rest[..index])?;
            let char = rest[index..].chars().next().unwrap_or_default();
            write!(writer, "\\u{:04x}", u32::from(char))?;
            rest = &rest[index + char.len_utf8()..];
        }
        self.0.write_string_fragment(writer, rest)
    }
}
