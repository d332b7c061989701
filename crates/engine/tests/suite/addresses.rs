//! Which endpoints requests go to, through the real sender: what every URL and every answer of a resolver leads to.
//!
//! Requests go through a proxy that leads nowhere but to a receiver, so that what is let through shows itself by the address that the
//! proxy is asked for, and no address is reached. Webhooks are saved while everything is allowed, and sent under the strict rules: so
//! it is the check at the moment of sending that decides.

use std::collections::BTreeSet;

use bellwether_domain::delivery::Status;
use bellwether_domain::endpoint::EndpointPolicy;
use bellwether_engine::{Proxy, Settings};
use bellwether_testkit::proxy::Proxy as TestProxy;
use bellwether_testkit::receiver::Receiver;
use serde_json::json;

use super::rig::{Rig, settings, strict_settings};

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    /// It goes to this address and port.
    Goes(&'static str),
    /// It is refused, since an address is of this kind.
    Refused(&'static str),
    /// The name leads nowhere, for this reason.
    Unresolved(&'static str),
}

use Verdict::{Goes, Refused, Unresolved};

/// URLs with addresses in all notations that lead to one.
const URLS: [(&str, Verdict); 62] = [
    ("http://8.8.8.8/", Goes("8.8.8.8:80")),
    ("http://8.8.8.8:8080/a?b=c", Goes("8.8.8.8:8080")),
    ("http://134744072/", Goes("8.8.8.8:80")),
    ("http://0x08080808/", Goes("8.8.8.8:80")),
    ("http://8.525320/", Goes("8.8.4.8:80")),
    ("http://010.8.8.8/", Goes("8.8.8.8:80")),
    ("http://8.8.8.8./", Goes("8.8.8.8:80")),
    ("http://[2606:4700::1111]/", Goes("[2606:4700::1111]:80")),
    ("http://[2606:4700:0:0:0:0:0:1111]:8443/", Goes("[2606:4700::1111]:8443")),
    ("http://[::ffff:8.8.8.8]/", Goes("[::ffff:8.8.8.8]:80")),
    ("http://[64:ff9b::8.8.8.8]/", Goes("[64:ff9b::808:808]:80")),
    ("http://127.0.0.1/", Refused("loopback")),
    ("http://127.0.0.1:8090/api/sites", Refused("loopback")),
    ("http://127.1/", Refused("loopback")),
    ("http://127.0.1/", Refused("loopback")),
    ("http://127.255.255.254/", Refused("loopback")),
    ("http://2130706433/", Refused("loopback")),
    ("http://0x7f000001/", Refused("loopback")),
    ("http://0x7f.0x0.0x0.0x1/", Refused("loopback")),
    ("http://0X7F.1/", Refused("loopback")),
    ("http://0177.0.0.1/", Refused("loopback")),
    ("http://017700000001/", Refused("loopback")),
    ("http://127.0.0.1./", Refused("loopback")),
    ("http://%31%32%37.0.0.1/", Refused("loopback")),
    ("http://１２７.0.0.1/", Refused("loopback")),
    ("http://127。0。0。1/", Refused("loopback")),
    ("http://①②⑦.0.0.1/", Refused("loopback")),
    ("http:\\\\127.0.0.1\\", Refused("loopback")),
    ("http:127.0.0.1", Refused("loopback")),
    ("http:///127.0.0.1/", Refused("loopback")),
    ("http://[::1]/", Refused("loopback")),
    ("http://[0:0:0:0:0:0:0:1]/", Refused("loopback")),
    ("http://[0000::0001]/", Refused("loopback")),
    ("http://[::ffff:127.0.0.1]/", Refused("loopback")),
    ("http://[::ffff:7f00:1]/", Refused("loopback")),
    ("http://[0:0:0:0:0:ffff:127.0.0.1]/", Refused("loopback")),
    ("http://[64:ff9b::127.0.0.1]/", Refused("loopback")),
    ("http://0.0.0.0/", Refused("unspecified")),
    ("http://0/", Refused("unspecified")),
    ("http://0x0/", Refused("unspecified")),
    ("http://[::]/", Refused("unspecified")),
    ("http://10.0.0.1/", Refused("private")),
    ("http://167772161/", Refused("private")),
    ("http://012.0.0.1/", Refused("private")),
    ("http://[::ffff:10.0.0.1]/", Refused("private")),
    ("http://[::ffff:a00:1]/", Refused("private")),
    ("http://[64:ff9b::a00:1]/", Refused("private")),
    ("http://172.16.0.1/", Refused("private")),
    ("http://192.168.0.1/", Refused("private")),
    ("http://3232235521/", Refused("private")),
    ("http://0xc0a80001/", Refused("private")),
    ("http://169.254.169.254/latest/meta-data", Refused("link-local")),
    ("http://2852039166/", Refused("link-local")),
    ("http://[::ffff:169.254.169.254]/", Refused("link-local")),
    ("http://[::ffff:a9fe:a9fe]/", Refused("link-local")),
    ("http://[64:ff9b::a9fe:a9fe]/", Refused("link-local")),
    ("http://[fe80::1]/", Refused("link-local")),
    ("http://[fd00:ec2::254]/", Refused("private")),
    ("http://[2002:7f00:1::]/", Refused("6to4")),
    ("http://[2001:0:7f00:1::]/", Refused("Teredo")),
    ("http://[::127.0.0.1]/", Refused("reserved")),
    ("http://255.255.255.255/", Refused("multicast or reserved")),
];

/// What a resolver may answer: both ends of each network that is not public and what lies right beside it, the disguises of IPv6, and
/// several addresses at once.
const ANSWERS: [(&[&str], Verdict); 108] = [
    (&["8.8.8.8"], Goes("8.8.8.8:80")),
    (&["8.8.8.8", "1.1.1.1"], Goes("8.8.8.8:80")),
    (&["2606:4700::1111", "8.8.8.8"], Goes("[2606:4700::1111]:80")),
    (&["0.0.0.0"], Refused("unspecified")),
    (&["0.255.255.255"], Refused("unspecified")),
    (&["1.0.0.0"], Goes("1.0.0.0:80")),
    (&["9.255.255.255"], Goes("9.255.255.255:80")),
    (&["10.0.0.0"], Refused("private")),
    (&["10.255.255.255"], Refused("private")),
    (&["11.0.0.0"], Goes("11.0.0.0:80")),
    (&["100.63.255.255"], Goes("100.63.255.255:80")),
    (&["100.64.0.0"], Refused("carrier NAT")),
    (&["100.127.255.255"], Refused("carrier NAT")),
    (&["100.128.0.0"], Goes("100.128.0.0:80")),
    (&["126.255.255.255"], Goes("126.255.255.255:80")),
    (&["127.0.0.0"], Refused("loopback")),
    (&["127.0.0.1"], Refused("loopback")),
    (&["127.255.255.255"], Refused("loopback")),
    (&["128.0.0.0"], Goes("128.0.0.0:80")),
    (&["169.253.255.255"], Goes("169.253.255.255:80")),
    (&["169.254.0.0"], Refused("link-local")),
    (&["169.254.169.254"], Refused("link-local")),
    (&["169.254.255.255"], Refused("link-local")),
    (&["169.255.0.0"], Goes("169.255.0.0:80")),
    (&["172.15.255.255"], Goes("172.15.255.255:80")),
    (&["172.16.0.0"], Refused("private")),
    (&["172.31.255.255"], Refused("private")),
    (&["172.32.0.0"], Goes("172.32.0.0:80")),
    (&["191.255.255.255"], Goes("191.255.255.255:80")),
    (&["192.0.0.0"], Refused("reserved")),
    (&["192.0.0.255"], Refused("reserved")),
    (&["192.0.1.0"], Goes("192.0.1.0:80")),
    (&["192.0.2.0"], Refused("documentation")),
    (&["192.0.2.255"], Refused("documentation")),
    (&["192.0.3.0"], Goes("192.0.3.0:80")),
    (&["192.31.196.1"], Refused("reserved")),
    (&["192.52.193.1"], Refused("reserved")),
    (&["192.88.98.255"], Goes("192.88.98.255:80")),
    (&["192.88.99.1"], Refused("a 6to4 relay")),
    (&["192.88.100.0"], Goes("192.88.100.0:80")),
    (&["192.167.255.255"], Goes("192.167.255.255:80")),
    (&["192.168.0.0"], Refused("private")),
    (&["192.168.255.255"], Refused("private")),
    (&["192.169.0.0"], Goes("192.169.0.0:80")),
    (&["198.17.255.255"], Goes("198.17.255.255:80")),
    (&["198.18.0.0"], Refused("benchmark")),
    (&["198.19.255.255"], Refused("benchmark")),
    (&["198.20.0.0"], Goes("198.20.0.0:80")),
    (&["198.51.99.255"], Goes("198.51.99.255:80")),
    (&["198.51.100.0"], Refused("documentation")),
    (&["198.51.101.0"], Goes("198.51.101.0:80")),
    (&["203.0.112.255"], Goes("203.0.112.255:80")),
    (&["203.0.113.255"], Refused("documentation")),
    (&["203.0.114.0"], Goes("203.0.114.0:80")),
    (&["223.255.255.255"], Goes("223.255.255.255:80")),
    (&["224.0.0.0"], Refused("multicast or reserved")),
    (&["239.255.255.255"], Refused("multicast or reserved")),
    (&["240.0.0.0"], Refused("multicast or reserved")),
    (&["255.255.255.255"], Refused("multicast or reserved")),
    (&["::"], Refused("unspecified")),
    (&["::1"], Refused("loopback")),
    (&["::2"], Refused("reserved")),
    (&["::8.8.8.8"], Refused("reserved")),
    (&["::ffff:0.0.0.0"], Refused("unspecified")),
    (&["::ffff:10.1.2.3"], Refused("private")),
    (&["::ffff:100.64.0.1"], Refused("carrier NAT")),
    (&["::ffff:127.0.0.1"], Refused("loopback")),
    (&["::ffff:169.254.169.254"], Refused("link-local")),
    (&["::ffff:192.168.1.1"], Refused("private")),
    (&["::ffff:224.0.0.1"], Refused("multicast or reserved")),
    (&["::ffff:0:127.0.0.1"], Refused("reserved")),
    (&["64:ff9a::1"], Refused("reserved")),
    (&["64:ff9b::0.0.0.0"], Refused("unspecified")),
    (&["64:ff9b::10.0.0.1"], Refused("private")),
    (&["64:ff9b::127.0.0.1"], Refused("loopback")),
    (&["64:ff9b::169.254.169.254"], Refused("link-local")),
    (&["64:ff9b::192.168.1.1"], Refused("private")),
    (&["64:ff9b::8.8.4.4"], Goes("[64:ff9b::808:404]:80")),
    (&["64:ff9b:1::8.8.8.8"], Refused("local NAT64")),
    (&["100::1"], Refused("discard-only")),
    (&["1fff:ffff::1"], Refused("reserved")),
    (&["2000::1"], Goes("[2000::1]:80")),
    (&["2001::1"], Refused("Teredo")),
    (&["2001:0:4136:e378:8000:63bf:3fff:fdd2"], Refused("Teredo")),
    (&["2001:2::1"], Refused("benchmark")),
    (&["2001:1ff:ffff::1"], Refused("reserved")),
    (&["2001:200::1"], Goes("[2001:200::1]:80")),
    (&["2001:db8::1"], Refused("documentation")),
    (&["2001:db9::1"], Goes("[2001:db9::1]:80")),
    (&["2002:808:808::1"], Refused("6to4")),
    (&["2002:a00:1::1"], Refused("6to4")),
    (&["2003::1"], Goes("[2003::1]:80")),
    (&["2620:4f:8000::1"], Refused("reserved")),
    (&["3ffe:ffff::1"], Goes("[3ffe:ffff::1]:80")),
    (&["3fff:fff::1"], Refused("documentation")),
    (&["4000::1"], Refused("reserved")),
    (&["fbff::1"], Refused("reserved")),
    (&["fc00::1"], Refused("private")),
    (&["fdff:ffff::1"], Refused("private")),
    (&["fe80::1"], Refused("link-local")),
    (&["febf::1"], Refused("link-local")),
    (&["fec0::1"], Refused("private")),
    (&["ff02::1"], Refused("multicast")),
    (&["8.8.8.8", "127.0.0.1"], Refused("loopback")),
    (&["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:10.0.0.1"], Refused("private")),
    (&["fd00::1", "8.8.8.8"], Refused("private")),
    (&["8.8.8.8"; 17], Unresolved("more than 16 addresses")),
    (&[], Unresolved("no address")),
];

#[tokio::test]
async fn each_url_and_each_answer_of_a_resolver_has_its_verdict() {
    let receiver = Receiver::start().await;
    let proxy = TestProxy::start(receiver.address()).await;
    let everything = ["0.0.0.0/0", "::/0"].map(|network| network.parse().expect("a network"));
    let lenient = Settings {
        policy: EndpointPolicy { allow_http: true, allow_networks: everything.to_vec() },
        max_webhooks_per_site: URLS.len() + ANSWERS.len(),
        ..settings()
    };
    let mut rig = Rig::start_with(lenient).await;
    let (rows, mut webhooks) = (rows(), Vec::new());
    for (url, answer, _) in &rows {
        answer.iter().for_each(|(name, _)| rig.names.set(name, &["8.8.8.8"]));
        webhooks.push(rig.webhook(json!({"url": url, "triggers": ["goal_completion"]})).await.webhook.id);
    }
    // Between the save and the sending, names come to mean something else, and the rules become strict.
    rows.iter().filter_map(|(_, answer, _)| answer.as_ref()).for_each(|(name, addresses)| rig.names.set(name, addresses));
    let through = Proxy::new("127.0.0.1", proxy.address().port(), None).expect("a proxy");
    rig.settings = Settings { proxy: Some(through), ..strict_settings() };
    rig.restart().await;
    rig.complete().await;
    rig.engine.drained().await;

    let mut expected = BTreeSet::new();
    for (webhook, (url, answer, verdict)) in webhooks.into_iter().zip(&rows) {
        let delivery = rig.latest(webhook).await.delivery;
        let (status, error) = (delivery.status, delivery.error.unwrap_or_default());
        let row = format!("{url} {answer:?}: {status:?}, {error}");
        match verdict {
            Goes(target) => {
                assert_eq!(status, Status::Success, "{row}");
                expected.insert((*target).to_owned());
            }
            Refused(kind) => {
                assert_eq!(status, Status::Failed, "{row}");
                assert!(error.contains(&format!(" is {kind}; BELLWETHER_ALLOW_NETWORKS can allow it")), "{row}");
            }
            Unresolved(reason) => {
                assert_eq!(status, Status::Retrying, "{row}");
                assert!(error.contains(reason), "{row}");
            }
        }
    }
    // Requests to the same address may share a tunnel.
    assert_eq!(proxy.asked().into_iter().map(|asked| asked.target).collect::<BTreeSet<_>>(), expected);
}

#[tokio::test]
async fn the_same_urls_are_refused_when_they_are_saved() {
    for (url, verdict) in URLS {
        let parsed = strict_settings().policy.parse(url).map(drop);
        match verdict {
            Refused(kind) => assert!(parsed.expect_err(url).contains(kind), "{url}"),
            _ => assert_eq!(parsed, Ok(()), "{url}"),
        }
    }
}

#[tokio::test]
async fn a_proxy_is_told_who_asks_and_makes_tunnels_for_tls_too() {
    let mut receiver = Receiver::start_tls().await;
    let proxy = TestProxy::start(receiver.address()).await;
    let through = Proxy::new("localhost", proxy.address().port(), Some(("ada", "söcret"))).expect("a proxy");
    let extra_roots_pem = receiver.root_pem().map(|pem| pem.as_bytes().to_vec());
    let rig = Rig::start_with(Settings { proxy: Some(through), extra_roots_pem, ..settings() }).await;
    rig.names.set("localhost", &["127.0.0.1"]);
    rig.webhook(json!({"url": receiver.url_at("localhost"), "triggers": ["goal_completion"]})).await;
    rig.complete().await;
    receiver.next().await;
    assert_eq!(rig.latest(rig.site().webhooks[0].webhook.id).await.delivery.status, Status::Success);
    let asked = proxy.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].target, format!("127.0.0.1:{}", receiver.address().port()));
    assert_eq!(asked[0].authorization, "Basic YWRhOnPDtmNyZXQ=");
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_said_and_nothing_goes_past_it() {
    let mut receiver = Receiver::start().await;
    let nobody = tokio::net::TcpSocket::new_v4().expect("a socket");
    nobody.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let port = nobody.local_addr().expect("its number").port();
    let through = Proxy::new("127.0.0.1", port, None).expect("a proxy");
    let rig = Rig::start_with(Settings { proxy: Some(through), ..settings() }).await;
    let webhook = rig.hook(&receiver).await;
    rig.complete().await;
    let delivery = rig.latest(webhook).await.delivery;
    let error = delivery.error.unwrap_or_default();
    assert_eq!(delivery.status, Status::Retrying);
    let expected = format!("the proxy of BELLWETHER_PROXY_URL makes no tunnel to {}: Connection refused", receiver.address());
    assert!(error.starts_with(&expected), "{error}");
    assert!(receiver.so_far().is_empty());
}

type Row = (String, Option<(String, &'static [&'static str])>, Verdict);

/// URL, name and what it means, and what that leads to.
fn rows() -> Vec<Row> {
    let urls = URLS.iter().map(|(url, verdict)| ((*url).to_owned(), None, *verdict));
    let answers = ANSWERS.iter().enumerate().map(|(index, (addresses, verdict))| {
        let name = format!("name-{index}.example");
        (format!("http://{name}/"), Some((name, *addresses)), *verdict)
    });
    urls.chain(answers).collect()
}
