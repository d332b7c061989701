use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn event() -> Value {
    json!({
        "event_id": "e", "event_type": "goal_completion", "site_id": "s", "site_domain": "example.com", "site_name": "Ex \"A\" mple",
        "timestamp": "2026-02-25T14:30:00.123Z",
        "data": {"goal_name": "Buy \"now\"\n</script>", "count": 7, "path": "/a?b=c&d=e", "source": null, "percent": 37.5, "whole": 300,
                 "props": {"plan": "pro", "seats": "3"}, "top_pages": [{"page": "/", "visitors": 7}, {"page": "/a", "visitors": 2}]},
    })
}

fn content_type(text: &str) -> ContentType {
    ContentType::parse(text).expect("a content type")
}

fn render_as(kind: &str, source: &str) -> Result<String, TemplateError> {
    Template::read(source, content_type(kind))?.render(&event(), &json!({"token": "sesame"}))
}

fn plain(source: &str) -> String {
    render_as("text/plain", source).unwrap_or_else(|error| panic!("{source}: {error}"))
}

fn json_of(source: &str) -> String {
    render_as("application/json", source).unwrap_or_else(|error| panic!("{source}: {error}"))
}

fn refused(source: &str) -> String {
    Template::read(source, ContentType::plain()).expect_err(source).to_string()
}

#[test]
fn what_templates_say() {
    let cases = [
        ("{{ site_domain }}: {{ data.count }}", "example.com: 7"),
        ("{{ data.source }}|{{ data.nothing.at.all }}|{{ data.props.plan }}", "||pro"),
        (
            "{{ data.percent }} {{ data.whole / 60 }} {{ data.whole // 7 }} {{ 7 % 4 }} {{ 7 - 10 }} {{ -data.count }}",
            "37.5 5 42 3 -3 -7",
        ),
        ("{% if data.count > 5 and not data.source %}many{% elif data.count == 1 %}one{% else %}few{% endif %}", "many"),
        (
            "{% for page in data.top_pages %}{{ loop.index }}. {{ page.page }}{% if not loop.last %}, {% endif %}{% endfor %}",
            "1. /, 2. /a",
        ),
        ("{% for page in data.top_pages if page.visitors > 5 %}{{ page.page }}{% else %}none{% endfor %}", "/"),
        ("{% for name in data.props %}{{ name }}={{ data.props[name] }};{% endfor %}", "plan=pro;seats=3;"),
        ("{% for part in data.source %}x{% else %}nothing{% endfor %}", "nothing"),
        ("{% set name = data.goal_name | upper %}{{ name | truncate(4) }}", "BUY…"),
        ("{{ 'yes' if data.count in [7, 8] else 'no' }} {{ 'a' if data.nothing is defined }}", "yes "),
        ("{{ data.source is none }} {{ data.source | default('direct') }}", "true direct"),
        (
            "{{ data.props | json }} {{ data.top_pages | length }} {{ data.props }}",
            r#"{"plan":"pro","seats":"3"} 2 {"plan":"pro","seats":"3"}"#,
        ),
        ("{{ (data.top_pages | first).page }}{{ (data.top_pages | last).page }}", "//a"),
        ("{{ timestamp | unix }} {{ data.percent | round }} {{ data.percent | round(1) }}", "1772029800 38 37.5"),
        ("{{ data.path | urlencode }} {{ data.path | html }}", "%2Fa%3Fb%3Dc%26d%3De /a?b=c&amp;d=e"),
        ("{{ '@all *b* [c](d)' | markdown }}", "@\u{200b}all \\*b\\* \\[c\\](d)"),
        ("{{ data.path | replace('/', ' ') | trim | lower }}", "a?b=c&d=e"),
        ("{{ ['a', 'b'] | join('-') }}{{ data.source | join(',') }}", "a-b"),
        ("{{ message.title | truncate(14) }} {{ parameters.token }}", "Goal complete… sesame"),
        ("{# a note #}{% raw %}{{ x }}{% endraw %}", "{{ x }}"),
        ("a\n  {% if true %}\nb\n  {% endif %}\nc\n", "a\nb\nc"),
    ];
    for (source, expected) in cases {
        assert_eq!(plain(source), expected, "{source}");
    }
}

#[test]
fn values_in_json_are_written_as_their_place_needs() {
    let cases = [
        (r#"{"a": {{ data.goal_name }}}"#, r#"{"a": "Buy \"now\"\n\u003c/script\u003e"}"#),
        (r#"{"a": "<{{ data.goal_name }}>"}"#, r#"{"a": "<Buy \"now\"\n\u003c/script\u003e>"}"#),
        (r#"{"a": {{ data.source }}, "b": "{{ data.source }}", "c": {{ data.nothing }}}"#, r#"{"a": null, "b": "", "c": null}"#),
        (
            r#"{"a": {{ data.props }}, "b": "{{ data.props }}"}"#,
            r#"{"a": {"plan":"pro","seats":"3"}, "b": "{\"plan\":\"pro\",\"seats\":\"3\"}"}"#,
        ),
        (r#"{"a": {{ data.count }}, "b": "{{ data.count }}", "c": {{ data.whole / 60 }}}"#, r#"{"a": 7, "b": "7", "c": 5}"#),
        (r#"{"\"{{ site_name }}\\": {{ data.path }}}"#, r#"{"\"Ex \"A\" mple\\": "/a?b=c\u0026d=e"}"#),
        (
            r#"["{{ data.goal_name | upper }}", {{ data.goal_name | json }}]"#,
            r#"["BUY \"NOW\"\n\u003c/SCRIPT\u003e", "\"Buy \\\"now\\\"\\n\\u003c/script\\u003e\""]"#,
        ),
    ];
    for (source, expected) in cases {
        let expected = expected.replace(r#"Ex "A" mple"#, r#"Ex \"A\" mple"#);
        assert_eq!(json_of(source), expected, "{source}");
    }
    assert_eq!(
        render_as("application/x-www-form-urlencoded", "to=%2B1&text={{ data.path }}").as_deref(),
        Ok("to=%2B1&text=%2Fa%3Fb%3Dc%26d%3De")
    );
}

#[test]
fn what_is_no_json_fails_and_says_where() {
    let cases = [
        ("hello", "makes no JSON: expected value at line 1 column 1 of the body"),
        (r#"{"a": 1,}"#, "makes no JSON: key must be a string at line 1 column 9 of the body"),
        (r#"{"a": {{ data.count }}"#, "makes no JSON: EOF while parsing an object at line 1 column 7 of the body"),
        ("{% if data.source %}{}{% endif %}", "makes no JSON: EOF while parsing a value at line 1 column 0 of the body"),
        ("{\"a\":\n  \"\\{{ site_name }}\"}", "line 2, column 8: a value can't stand behind a backslash"),
    ];
    for (source, expected) in cases {
        assert_eq!(
            render_as("application/json", source).map_err(|error| error.to_string()),
            Err(expected.to_owned()),
            "{source}"
        );
    }
}

#[test]
fn mistakes_are_named_with_their_place() {
    let cases = [
        ("{{ site_domain", "line 1, column "),
        ("ab\n{{ dta.count }}", "line 2, column 4: there is no dta; there are event_id, "),
        ("ä{{ data.count | frobnicate }}", "line 1, column 18: there is no filter frobnicate; there are default, "),
        ("{% for page in data.top_pages %}", "line 1, column "),
        ("{{ data.count is odd }}", "line 1, column 18: there is no test odd; there are defined, none"),
        ("{% endif %}", "line 1, column "),
        ("{{ 5 5 }}", "line 1, column 6: cannot be read: "),
        ("{{ 'a", "line 1, column "),
        ("{{ data. }}", "line 1, column "),
        ("\0", "line 1, column 1: must not contain the character NUL"),
    ];
    for (source, expected) in cases {
        let error = refused(source);
        assert!(error.starts_with(expected), "{source}: {error}");
    }
    let failing = [
        ("a\n {{ data.goal_name - 1 }}", "line 2, column 5: "),
        ("{{ data.goal_name | round }}", "line 1, column 21: round is for numbers"),
        ("{{ data.goal_name | unix }}", "line 1, column 21: unix is for times"),
        ("{{ data.count / 0 }}", "line 1, column 4: "),
        ("{% for x in data.count %}{% endfor %}", "line 1, column 13: "),
    ];
    for (source, expected) in failing {
        let error = render_as("text/plain", source).expect_err(source).to_string();
        assert!(error.starts_with(expected), "{source}: {error}");
    }
}

/// Whatever reaches for other templates, for the machine, for itself, or for what makes long text of short.
#[test]
fn nothing_but_the_harmless_part_of_the_language_is_taken() {
    let refusals = [
        "{% include 'x' %}",
        "{% include name %}",
        "{% import 'x' as y %}",
        "{% from 'x' import y %}",
        "{% extends 'x' %}",
        "{% block a %}{% endblock %}",
        "{{ self.a() }}",
        "{{ super() }}",
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        "{% call f() %}{% endcall %}",
        "{% for x in data recursive %}{{ loop(data) }}{% endfor %}",
        "{% for x in data %}{{ loop(data) }}{% endfor %}",
        "{% for x in range(100000000) %}x{% endfor %}",
        "{{ namespace() }}",
        "{{ dict(a=1) }}",
        "{{ debug() }}",
        "{{ data.goal_name.upper() }}",
        "{{ ''.__class__.__mro__ }}{{ x.__init__ }}",
        "{{ __import__('os') }}",
        "{% do data.items() %}",
        "{% autoescape false %}{{ data.path }}{% endautoescape %}",
        "{% filter upper %}a{% endfilter %}",
        "{% set x %}{{ data }}{{ data }}{% endset %}",
        "{% with a = 1 %}{{ a }}{% endwith %}",
        "{% set data = 5 %}",
        "{% for message in data.props %}{% endfor %}",
        "{% set loop = 5 %}{% set true = 5 %}",
        "{% set data.count = 5 %}",
        "{% set a, b = 1, 2 %}",
        "{{ 'x' * 100000000 }}",
        "{{ data.goal_name * 1000 }}",
        "{{ [0] * 100000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ data.path ~ data.path }}",
        "{{ data.path + data.path }}",
        "{{ data.path[0:5] }}",
        "{{ {'a': data} }}",
        "{% set a = [data, data] %}",
        "{{ [[1, 2], [3]] }}",
        "{{ (data, data) }}",
        "{{ data.path | map('upper') }}",
        "{{ data.path | indent(100000) }}",
        "{{ data.path | center(100000000) }}",
        "{{ data | tojson }}",
        "{{ data.path | safe }}",
        "{{ data | items }}",
        "{{ data.path | replace(from='a', to='b') }}",
        "{{ data.path | replace(*['a', 'b']) }}",
        "{{ '\u{0}' }}",
        "{{ nobody }}",
    ];
    for source in refusals {
        let error = Template::read(source, ContentType::plain()).expect_err(source);
        assert!(error.place.is_some(), "{source}: {error}");
    }
}

#[test]
fn what_is_nested_too_deep_is_refused_before_it_is_parsed() {
    let deep =
        |open: &str, middle: &str, close: &str, times: usize| format!("{}{middle}{}", open.repeat(times), close.repeat(times));
    let cases = [
        format!("{{{{ {}1 }}}}", "not ".repeat(4_000)),
        format!("{{{{ {} }}}}", deep("(", "1", ")", 4_000)),
        format!("{{{{ {} }}}}", deep("[", "1", "]", 4_000)),
        format!("{{{{ 1{} }}}}", " - 1".repeat(4_000)),
        format!("{{{{ 1{} }}}}", " and 1".repeat(2_500)),
        format!("{{{{ data{} }}}}", ".a".repeat(7_000)),
        format!("{{{{ data{} }}}}", "|json".repeat(3_000)),
        format!("{{{{ {}1 }}}}", "1 if 1 else ".repeat(1_300)),
        format!("{{{{ {}1 }}}}", "-".repeat(16_000)),
        deep("{% if 1 %}", "", "{% endif %}", 700),
        deep("{% for x in data %}", "", "{% endfor %}", 500),
        format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(1_300)),
        deep("{% for x in data %}", "", "{% endfor %}", MAX_DEPTH),
        "x".repeat(MAX_TEMPLATE_BYTES + 1),
    ];
    for source in cases {
        assert!(Template::read(&source, ContentType::plain()).is_err(), "{}…", &source[..source.len().min(60)]);
    }
    // What is just within the limits is read and run on the small stack of a worker's thread.
    let within = [
        format!("{{{{ {}1 }}}}", "not ".repeat(140)),
        format!("{{{{ {} }}}}", deep("(", "1", ")", 70)),
        format!("{{{{ data{} }}}}", ".a".repeat(70)),
        format!("{{{{ 1{} }}}}", " - 1".repeat(70)),
        format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(190)),
        deep("{% for x in data.source %}", "", "{% endfor %}", 10),
    ];
    for source in within {
        assert!(Template::read(&source, ContentType::plain()).expect(&source).render(&event(), &json!({})).is_ok(), "{source}");
    }
}

/// An event as large as there can be one, of a visitor who is no friend.
fn large_event() -> Value {
    let props: serde_json::Map<_, _> =
        (0..30).map(|number| (format!("p{number:0>290}"), json!("<\"&\u{1}".repeat(500)))).collect();
    let mut event = event();
    event["data"]["props"] = props.into();
    event["data"]["path"] = json!("/a".repeat(1_000));
    event
}

#[test]
fn bombs_are_cut_when_they_run() {
    let nested =
        |deep: usize, inner: &str| format!("{}{inner}{}", "{% for x in data.path %}".repeat(deep), "{% endfor %}".repeat(deep));
    let again = |times: usize, filter: &str| {
        format!("{{% set x = data.path %}}{}{{{{ x }}}}", format!("{{% set x = x | {filter} %}}").repeat(times))
    };
    let cases = [
        (nested(10, "{{ x }}"), "steps"),
        (nested(3, "{{ data }}"), "bytes"),
        (nested(2, &"y".repeat(10_000)), "bytes"),
        ("{% for a in data.path %}{% for b in data.path %}{% endfor %}{% endfor %}".to_owned(), "steps"),
        (again(20, "replace('a', 'aa')"), "bytes"),
        (again(20, "replace('/', '//////////////////////////////////')"), "bytes"),
        (again(30, "json"), "bytes"),
        (again(150, "urlencode"), "bytes"),
        (again(100, "replace('/', '#') | markdown | markdown"), "bytes"),
        (again(150, "replace('a', 'b')"), ""),
        (nested(2, "{{ data.props | json | upper }}"), "bytes"),
        (nested(2, "{% if data == data %}{% endif %}"), "steps"),
        (nested(2, "{{ message.facts | join(data.path) }}"), "bytes"),
        ("{{ data.props | json | replace('', 'xxxxxxxx') | length }}".to_owned(), ""),
        ("{{ data.path | truncate(99999999999999999999) }}".to_owned(), "cannot"),
        ("{{ data.path | truncate(-1) }}".to_owned(), "cannot"),
        ("{{ 170141183460469231731687303715884105727 - -170141183460469231731687303715884105727 }}".to_owned(), "calculate"),
    ];
    let large = large_event();
    for (source, sentence) in cases {
        let template = Template::read(&source, ContentType::plain()).expect(&source);
        let begun = Instant::now();
        let rendered = template.render(&large, &json!({}));
        assert!(begun.elapsed() < Duration::from_secs(5), "{:.99}: {:?}", source, begun.elapsed());
        match rendered {
            Ok(body) => assert!(sentence.is_empty() && body.len() <= MAX_BODY_BYTES, "{source:.99}: {} bytes", body.len()),
            Err(error) => assert!(!sentence.is_empty() && error.to_string().contains(sentence), "{source:.99}: {error}"),
        }
    }
}

#[test]
fn what_was_taken_by_other_rules_fails_when_it_runs() {
    let template = Template::kept("{{ data.path ~ data.path }}", ContentType::plain());
    let error = template.render(&event(), &json!({})).expect_err("a failure");
    assert_eq!(error.to_string(), "line 1, column 4: ~ is not allowed: write one value behind the other");
    assert_eq!(template.source(), "{{ data.path ~ data.path }}");
}

#[test]
fn content_types_are_of_a_kind_that_values_can_be_written_into() {
    for (text, is_json) in [
        ("application/json", true),
        ("Application/JSON; charset=utf-8", true),
        ("application/cloudevents+json", true),
        ("text/plain; charset=utf-8", false),
        ("application/x-www-form-urlencoded", false),
    ] {
        assert_eq!(ContentType::parse(text).map(|kind| kind.is_json()), Ok(is_json), "{text}");
    }
    for text in [
        "",
        "json",
        "text/html",
        "application/xml",
        "text/plain\r\nx: y",
        "application/ü+json",
        &"a".repeat(101),
        "application/a b+json",
    ] {
        assert!(ContentType::parse(text).is_err(), "{text}");
    }
}

#[test]
fn the_documentation_has_every_filter_and_limit() {
    let documentation = include_str!("../../../../docs/templates.md");
    let limits =
        ["16,384 bytes", "20,000 steps", "524,288 bytes", "4 MiB", "150 words and signs", "200 statements", "more than 10"];
    let filters = filters::FILTERS.map(|name| format!("`{name}")).into_iter();
    for text in filters.chain(KNOWN.map(|name| format!("`{name}"))).chain(limits.map(str::to_owned)) {
        assert!(documentation.contains(&text), "{text}");
    }
}

/// A piece of a template: right, wrong or nonsense.
fn piece() -> impl Strategy<Value = String> {
    let value = prop::sample::select(vec![
        "data",
        "data.path",
        "data.props",
        "message.facts",
        "x",
        "1",
        "'a\"<'",
        "data.count",
        "none",
        "loop.index",
    ]);
    let filter = prop::sample::select(
        ["json", "upper", "replace('a', 'bbb')", "join(',')", "truncate(9)", "round", "length", "first", "markdown"].to_vec(),
    );
    let operator = prop::sample::select(vec!["==", "<", "in", "and", "or", "-", "/", "%", "~", "+", "*"]);
    prop_oneof![
        (value.clone(), filter.clone()).prop_map(|(value, filter)| format!("{{{{ {value} | {filter} }}}}")),
        (value.clone(), operator, value.clone()).prop_map(|(left, sign, right)| format!("{{{{ {left} {sign} {right} }}}}")),
        (value.clone(), filter).prop_map(|(value, filter)| format!("{{% set x = {value} | {filter} %}}")),
        value.clone().prop_map(|value| format!("{{% for x in {value} %}}{{{{ x }}}}")),
        value.prop_map(|value| format!("{{% if {value} %}}")),
        prop::sample::select(vec!["{% endfor %}", "{% endif %}", "{% else %}", "\"", "{", "}", "[", "]", ",", ":", "\\", "<b>"])
            .prop_map(str::to_owned),
        "\\PC{0,8}",
    ]
}

proptest! {
    #[test]
    fn no_template_panics_or_makes_too_much(pieces in prop::collection::vec(piece(), 0..12), is_json in any::<bool>()) {
        let kind = if is_json { ContentType::default() } else { ContentType::plain() };
        if let Ok(template) = Template::read(&pieces.concat(), kind)
            && let Ok(body) = template.render(&large_event(), &json!({}))
        {
            prop_assert!(body.len() <= MAX_BODY_BYTES);
            prop_assert!(!is_json || serde_json::from_str::<Value>(&body).is_ok());
        }
    }

    #[test]
    fn no_text_is_more_than_a_text(text in "\\PC*|[\"\\\\{}\\[\\]:,\u{0}-\u{1f}\u{2028}<>&]{0,40}") {
        let mut event = event();
        event["data"]["goal_name"] = json!(text);
        let template = Template::read(r#"{"a": {{ data.goal_name }}, "b": "x{{ data.goal_name }}y", "c": [{{ data.goal_name | json }}]}"#, ContentType::default());
        let body = template.expect("a template").render(&event, &json!({})).expect("a body");
        let read: Value = serde_json::from_str(&body).expect("JSON");
        prop_assert_eq!(&read["a"], &json!(text));
        prop_assert_eq!(&read["b"], &json!(format!("x{text}y")));
        prop_assert_eq!(serde_json::from_str::<Value>(read["c"][0].as_str().expect("a text")).expect("JSON"), json!(text));
        prop_assert!(!body.contains(['<', '>', '&']));
    }
}
