//! Code that verifies signatures, with a webhook's own values. It is that of the documentation, which the tests run.

use std::sync::LazyLock;

use url::Url;

const DOCUMENTATION: &str = include_str!("../../../../docs/receiving.md");
/// By the name of its block in the documentation.
const LANGUAGES: [(&str, &str); 4] = [("python", "Python"), ("javascript", "JavaScript"), ("go", "Go"), ("ruby", "Ruby")];
/// Where a secret stands that is not shown any more.
const HIDDEN_SECRET: &str = "whsec_…";

/// A sample in a language.
pub(super) struct Sample {
    pub(super) language: &'static str,
    pub(super) code: String,
}

static VERIFIERS: LazyLock<Vec<(&str, &str)>> = LazyLock::new(|| {
    let verifier = |(block, language): (&str, &'static str)| {
        let (_, rest) = DOCUMENTATION.split_once(&format!("```{block}\n"))?;
        rest.split_once("```").map(|(code, _)| (language, code))
    };
    LANGUAGES.into_iter().filter_map(verifier).collect()
});

/// How a webhook of this URL and secret is received and verified, in each language.
pub(super) fn of(url: &str, secret: Option<&str>) -> Vec<Sample> {
    let path = Url::parse(url).map_or_else(|_| "/".to_owned(), |url| url.path().to_owned());
    let (path, secret) = (text(&path), text(secret.unwrap_or(HIDDEN_SECRET)));
    let sample = |(language, verifier): &(&'static str, &str)| {
        let code = format!("{verifier}\n{}", usage(language).replace("{path}", &path).replace("{secret}", &secret));
        Sample { language, code }
    };
    VERIFIERS.iter().map(sample).collect()
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

fn usage(language: &str) -> &'static str {
    match language {
        "Python" => {
            r#"
from http.server import BaseHTTPRequestHandler, HTTPServer

SECRET = {secret}
PATH = {path}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        is_genuine = self.path == PATH and verify(SECRET, self.headers, body)
        self.send_response(204 if is_genuine else 401)
        self.end_headers()


if __name__ == "__main__":
    HTTPServer(("", 3000), Handler).serve_forever()
"#
        }
        "JavaScript" => {
            r#"
const SECRET = {secret}
const PATH = {path}

if (require.main === module) {
  require('node:http').createServer((request, response) => {
    const chunks = []
    request.on('data', (chunk) => chunks.push(chunk))
    request.on('end', () => {
      const isGenuine = request.url === PATH && verify(SECRET, request.headers, Buffer.concat(chunks))
      response.writeHead(isGenuine ? 204 : 401).end()
    })
  }).listen(3000)
}
"#
        }
        "Go" => {
            r#"
// Secret and Path are those of the webhook. Receive handles it: http.HandleFunc(Path, Receive), with "io" among the imports.
const (
	Secret = {secret}
	Path   = {path}
)

func Receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil || !Verify(Secret, r.Header, body, time.Now()) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
"#
        }
        _ => {
            r#"
SECRET = {secret}
PATH = {path}

# As a Rack application: run Receiver
Receiver = lambda do |env|
  headers = env.select { |name, _| name.start_with?("HTTP_") }
  headers = headers.to_h { |name, value| [name.delete_prefix("HTTP_").downcase.tr("_", "-"), value] }
  is_genuine = env["PATH_INFO"] == PATH && verify(SECRET, headers, env["rack.input"].read)
  [is_genuine ? 204 : 401, {}, []]
end
"#
        }
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
        assert!(of("https://example.com", None).iter().all(|sample| sample.code.contains(HIDDEN_SECRET)));
    }

    #[test]
    fn no_value_leaves_its_quotes() {
        assert_eq!(text(r#"a"b\c#{d}"#), r#""a\"b\\c\u0023{d}""#);
        assert_eq!(text("a\nb"), "\"ab\"");
    }
}
