//! Code that verifies signatures, with a webhook's own values. It is that of the documentation, which the tests run.

use std::sync::LazyLock;

use url::Url;

const DOCUMENTATION: &str = include_str!("../../../../docs/receiving.md");
/// Where a secret stands that is not shown any more.
const HIDDEN_SECRET: &str = "whsec_…";

/// A sample in a language.
pub(super) struct Sample {
    pub(super) language: &'static str,
    pub(super) code: String,
}

/// How a language's sample is made.
struct Language {
    name: &'static str,
    /// The name of its block in the documentation, which verifies.
    block: &'static str,
    /// What differs in a whole program, in the place of what is documented.
    changes: &'static [(&'static str, &'static str)],
    /// What receives, behind what verifies.
    receiver: &'static str,
}

const LANGUAGES: [Language; 4] = [
    Language { name: "Python", block: "python", changes: &[], receiver: PYTHON },
    Language { name: "JavaScript", block: "javascript", changes: &[], receiver: JAVASCRIPT },
    Language {
        name: "Go",
        block: "go",
        changes: &[
            ("package webhook\n", "package main\n"),
            ("\t\"encoding/base64\"\n", "\t\"encoding/base64\"\n\t\"io\"\n\t\"log\"\n"),
        ],
        receiver: GO,
    },
    Language { name: "Ruby", block: "ruby", changes: &[], receiver: RUBY },
];

const PYTHON: &str = r#"
from http.server import BaseHTTPRequestHandler, HTTPServer

SECRET = {secret}
PATH = {path}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        path = self.path.split("?")[0]
        is_genuine = path == PATH and verify(SECRET, self.headers, body)
        self.send_response(204 if is_genuine else 401)
        self.end_headers()


if __name__ == "__main__":
    HTTPServer(("", 3000), Handler).serve_forever()
"#;

const JAVASCRIPT: &str = r#"
const SECRET = {secret}
const PATH = {path}

if (require.main === module) {
  require('node:http').createServer((request, response) => {
    const chunks = []
    request.on('data', (chunk) => chunks.push(chunk))
    request.on('end', () => {
      const path = request.url.split('?')[0]
      const isGenuine = path === PATH && verify(SECRET, request.headers, Buffer.concat(chunks))
      response.writeHead(isGenuine ? 204 : 401).end()
    })
  }).listen(3000)
}
"#;

const GO: &str = r#"
const (
	secret = {secret}
	path   = {path}
)

func receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil || r.URL.EscapedPath() != path || !Verify(secret, r.Header, body, time.Now()) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func main() {
	log.Fatal(http.ListenAndServe(":3000", http.HandlerFunc(receive)))
}
"#;

const RUBY: &str = r#"
SECRET = {secret}
PATH = {path}

# As a Rack application: run Receiver
Receiver = lambda do |env|
  headers = env.select { |name, _| name.start_with?("HTTP_") }
  headers = headers.to_h { |name, value| [name.delete_prefix("HTTP_").downcase.tr("_", "-"), value] }
  is_genuine = env["PATH_INFO"] == PATH && verify(SECRET, headers, env["rack.input"].read)
  [is_genuine ? 204 : 401, {}, []]
end
"#;

/// What is the same for all webhooks, with a place for the values of each.
static PROGRAMS: LazyLock<Vec<(&str, String)>> = LazyLock::new(|| {
    let program = |language: &Language| {
        let (_, rest) = DOCUMENTATION.split_once(&format!("```{}\n", language.block))?;
        let (verifier, _) = rest.split_once("```")?;
        let change = |code: String, (from, to): &(&str, &str)| code.replace(from, to);
        let verifier = language.changes.iter().fold(verifier.to_owned(), change);
        Some((language.name, format!("{verifier}{}", language.receiver)))
    };
    LANGUAGES.iter().filter_map(program).collect()
});

/// How a webhook of this URL and secret is received and verified, in each language.
pub(super) fn of(url: &str, secret: Option<&str>) -> Vec<Sample> {
    let path = Url::parse(url).map_or_else(|_| "/".to_owned(), |url| url.path().to_owned());
    let (path, secret) = (text(&path), text(secret.unwrap_or(HIDDEN_SECRET)));
    let sample = |(language, program): &(&'static str, String)| {
        let code = program.replace("{path}", &path).replace("{secret}", &secret);
        Sample { language, code }
    };
    PROGRAMS.iter().map(sample).collect()
}

/// A text in quotes that all four languages read alike.
fn text(value: &str) -> String {
    let escaped: String = value.chars().filter(|char| !char.is_control()).flat_map(escape).collect();
    format!("\"{escaped}\"")
}

/// `#` begins a value within a text in Ruby.
fn escape(char: char) -> Vec<char> {
    match char {
        '"' | '\\' => vec!['\\', char],
        '#' => "\\u0023".chars().collect(),
        other => vec![other],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_four_languages_with_the_webhooks_own_values() {
        let samples = of("https://example.com/hooks/a?b=c", Some("whsec_abc"));
        assert_eq!(samples.iter().map(|sample| sample.language).collect::<Vec<_>>(), ["Python", "JavaScript", "Go", "Ruby"]);
        for Sample { language, code } in &samples {
            assert!(code.contains("\"whsec_abc\"") && code.contains("\"/hooks/a\""), "{language}: {code}");
            assert!(code.to_lowercase().contains("def verify") || code.to_lowercase().contains("func"), "{language}: {code}");
        }
        let (_, go) = PROGRAMS.iter().find(|(language, _)| *language == "Go").expect("Go");
        for part in ["package main\n", "\t\"io\"\n", "\t\"log\"\n"] {
            assert!(go.contains(part), "{go}");
        }
        assert!(of("https://example.com", None).iter().all(|sample| sample.code.contains(HIDDEN_SECRET)));
    }

    #[test]
    fn no_value_leaves_its_quotes() {
        assert_eq!(text(r#"a"b\c#{d}"#), r#""a\"b\\c\u0023{d}""#);
        assert_eq!(text("a\nb"), "\"ab\"");
    }
}
