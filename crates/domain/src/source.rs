//! Where a visit comes from: a campaign's tag, or the site that referred the visitor.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::event::{host_of_authority, strip_www};

/// Tags of the page's query that name a source, the most specific first.
const TAGS: [&str; 3] = ["utm_source", "source", "ref"];
const REFERRER_SCHEMES: [&str; 3] = ["http", "https", "android-app"];

/// Names of sources by the host (or the tag's value) that shows them. A host also stands for its subdomains.
const NAMES: &[(&str, &str)] = &[
    ("adwords", "Google"),
    ("baidu.com", "Baidu"),
    ("bing", "Bing"),
    ("bing.com", "Bing"),
    ("bsky.app", "Bluesky"),
    ("chat.openai.com", "ChatGPT"),
    ("chatgpt.com", "ChatGPT"),
    ("claude.ai", "Claude"),
    ("com.google.android.gm", "Gmail"),
    ("com.google.android.googlequicksearchbox", "Google"),
    ("com.linkedin.android", "LinkedIn"),
    ("com.slack", "Slack"),
    ("dev.to", "DEV Community"),
    ("discord.com", "Discord"),
    ("discordapp.com", "Discord"),
    ("duckduckgo.com", "DuckDuckGo"),
    ("ecosia.org", "Ecosia"),
    ("facebook", "Facebook"),
    ("facebook.com", "Facebook"),
    ("fb", "Facebook"),
    ("fb.com", "Facebook"),
    ("fb.me", "Facebook"),
    ("gemini.google.com", "Gemini"),
    ("getpocket.com", "Pocket"),
    ("github.com", "GitHub"),
    ("google", "Google"),
    ("googleads", "Google"),
    ("hn", "Hacker News"),
    ("ig", "Instagram"),
    ("instagram", "Instagram"),
    ("instagram.com", "Instagram"),
    ("kagi.com", "Kagi"),
    ("linkedin", "LinkedIn"),
    ("linkedin.com", "LinkedIn"),
    ("lnkd.in", "LinkedIn"),
    ("lobste.rs", "Lobsters"),
    ("mail.google.com", "Gmail"),
    ("medium.com", "Medium"),
    ("meta.com", "Facebook"),
    ("news.google.com", "Google News"),
    ("news.ycombinator.com", "Hacker News"),
    ("old.reddit.com", "Reddit"),
    ("out.reddit.com", "Reddit"),
    ("perplexity.ai", "Perplexity"),
    ("pinterest", "Pinterest"),
    ("pinterest.com", "Pinterest"),
    ("producthunt", "Product Hunt"),
    ("producthunt.com", "Product Hunt"),
    ("quora.com", "Quora"),
    ("qwant.com", "Qwant"),
    ("reddit", "Reddit"),
    ("reddit.com", "Reddit"),
    ("search.brave.com", "Brave"),
    ("slack.com", "Slack"),
    ("snapchat.com", "Snapchat"),
    ("stackoverflow.com", "Stack Overflow"),
    ("startpage.com", "Startpage"),
    ("substack.com", "Substack"),
    ("t.co", "Twitter"),
    ("t.me", "Telegram"),
    ("telegram", "Telegram"),
    ("threads", "Threads"),
    ("threads.com", "Threads"),
    ("threads.net", "Threads"),
    ("tiktok", "TikTok"),
    ("tiktok.com", "TikTok"),
    ("twitter", "Twitter"),
    ("twitter.com", "Twitter"),
    ("vk.com", "VKontakte"),
    ("wikipedia", "Wikipedia"),
    ("wikipedia.org", "Wikipedia"),
    ("x.com", "Twitter"),
    ("yahoo.com", "Yahoo!"),
    ("yandex", "Yandex"),
    ("yandex.com", "Yandex"),
    ("yandex.ru", "Yandex"),
    ("youtu.be", "YouTube"),
    ("youtube", "YouTube"),
    ("youtube.com", "YouTube"),
];

/// The source of a visit that starts on a page with this `query`, referred from `referrer_host` (without `www.`), on a site
/// whose own host is `own_host`. None when the visitor came directly.
pub fn of_visit(query: &str, referrer_host: Option<&str>, own_host: &str) -> Option<String> {
    if let Some(tag) = TAGS.iter().find_map(|name| tag(query, name)) {
        let name = name_of(&tag.to_lowercase());
        return Some(name.map_or(tag, str::to_owned));
    }
    let host = referrer_host.filter(|host| *host != own_host && *host != "localhost")?;
    Some(name_of(host).unwrap_or(host).to_owned())
}

/// The host of a referrer, lower case; none unless its scheme is one that visitors come by.
pub fn host_of(referrer: &str) -> Option<String> {
    let (scheme, rest) = referrer.trim().split_once("://")?;
    let known = REFERRER_SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known));
    let host = host_of_authority(rest.split(['/', '?', '#']).next().unwrap_or(rest));
    (known && !host.is_empty()).then_some(host)
}

fn tag(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.filter(|(key, _)| *key == name).map(|(_, value)| decode(value)).next()?;
    Some(value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn decode(value: &str) -> Cow<'_, str> {
    if !value.contains(['%', '+']) {
        return Cow::Borrowed(value);
    }
    let spaced = value.replace('+', " ");
    Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

fn name_of(host: &str) -> Option<&'static str> {
    let mut host = host;
    loop {
        if let Ok(index) = NAMES.binary_search_by_key(&host, |(known, _)| known) {
            return Some(NAMES[index].1);
        }
        if is_google(host) {
            return Some("Google");
        }
        host = host.split_once('.')?.1;
    }
}

/// Google's search has a domain in every country.
fn is_google(host: &str) -> bool {
    let country = strip_www(host).strip_prefix("google.");
    country.is_some_and(|country| country.len() <= 6 && country.split('.').count() <= 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_visits() {
        let cases = [
            ("", None, None),
            ("utm_source=newsletter&ref=x", Some("google.com"), Some("newsletter")),
            ("ref=producthunt", None, Some("Product Hunt")),
            ("source=My+List%21", None, Some("My List!")),
            ("utm_source=&ref=a", None, Some("a")),
            ("", Some("google.co.uk"), Some("Google")),
            ("", Some("news.google.com"), Some("Google News")),
            ("", Some("m.facebook.com"), Some("Facebook")),
            ("", Some("blog.elsewhere.org"), Some("blog.elsewhere.org")),
            ("", Some("example.com"), None),
            ("", Some("localhost"), None),
            ("utm_source=FB", None, Some("Facebook")),
        ];
        for (query, referrer, expected) in cases {
            assert_eq!(of_visit(query, referrer, "example.com").as_deref(), expected, "{query} {referrer:?}");
        }
    }

    #[test]
    fn hosts_of_referrers() {
        let cases = [
            ("https://www.Google.com/search?q=x", Some("www.google.com")),
            ("android-app://com.google.android.gm", Some("com.google.android.gm")),
            ("ftp://a.com", None),
            ("javascript:alert(1)", None),
            ("not a url", None),
            ("https://", None),
            ("https://user@a.com:8080?x", Some("a.com")),
        ];
        for (referrer, host) in cases {
            assert_eq!(host_of(referrer).as_deref(), host, "{referrer}");
        }
    }

    #[test]
    fn the_table_of_names_can_be_searched() {
        assert!(NAMES.is_sorted_by_key(|(host, _)| *host));
    }
}
