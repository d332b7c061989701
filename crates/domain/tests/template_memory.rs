//! What templates that mean harm take of memory, as the system sees it: in a process of its own, since others take some too.

#![cfg(target_os = "linux")]
#![expect(clippy::expect_used, reason = "a test that cannot go on has failed, in a helper too")]

use std::fs;

use bellwether_domain::template::{ContentType, Template};
use serde_json::{Map, Value, json};

/// More than a body, what its filters make, and the event in a few forms, and far less than what a bomb would take.
const MOST_KIB: u64 = 16 * 1_024;

fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("what the system says");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the most memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn large_event() -> Value {
    let props: Map<_, _> = (0..30).map(|number| (format!("p{number:0>290}"), json!("<\"&\u{1}".repeat(500)))).collect();
    json!({"event_type": "goal_completion", "data": {"path": "/a".repeat(1_000), "props": props}})
}

#[test]
fn no_template_takes_much_memory() {
    let twice = |times: usize, filter: &str| {
        let again = format!("{{% set x = x | {filter} %}}").repeat(times);
        format!("{{% set x = data.props | json %}}{again}{{{{ x }}}}")
    };
    let kept = (0..150).map(|number| format!("{{% set x{number} = data.props | json | html %}}")).collect();
    let each = |inner: &str| format!("{{% for a in data.path %}}{{% for b in data.path %}}{inner}{{% endfor %}}{{% endfor %}}");
    let sources: Vec<String> = vec![
        twice(150, "json"),
        twice(150, "urlencode"),
        twice(150, "replace('a', 'aaaaaaaa')"),
        twice(150, "markdown | html | markdown"),
        kept,
        each("{{ data }}"),
        each("{% set x = data | json | html %}"),
        each("{{ message.facts | join(data.path) }}"),
        each("{% for c in data.props %}{{ c | json }}{% endfor %}"),
    ];
    let event = large_event();
    let before = peak_kib();
    for source in sources {
        for kind in ["text/plain", "application/json", "application/x-www-form-urlencoded"] {
            let template = Template::read(&source, ContentType::parse(kind).expect("a content type")).expect("a template");
            assert!(template.render(&event, &json!({})).is_err(), "{source:.99}");
        }
    }
    let taken = peak_kib() - before;
    assert!(taken < MOST_KIB, "{taken} KiB");
}
