//! Somebody who looks at pages: keeps cookies, sends forms as browsers do, and is not sent on by itself.

use std::cell::RefCell;

use axum::body::Body;
use axum::http::Request;
use axum::http::header::{CONTENT_TYPE, COOKIE, USER_AGENT};
use axum::http::request::Builder;

use super::{Answer, Server};

pub(crate) const OWNER: &str = "owner@example.com";
pub(crate) const PASSWORD: &str = "purple-otters-juggle-7";
const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// A browser with one cookie at most.
pub(crate) struct Browser<'a> {
    server: &'a Server,
    cookie: RefCell<Option<String>>,
    /// For which address a proxy says that it asks.
    address: Option<&'static str>,
}

impl<'a> Browser<'a> {
    /// One that nobody is signed in with.
    pub(crate) fn new(server: &'a Server) -> Self {
        Self { server, cookie: RefCell::default(), address: None }
    }

    /// The same behind a proxy, at this address.
    pub(crate) fn behind(self, address: &'static str) -> Self {
        Self { address: Some(address), ..self }
    }

    /// One whose user is the owner; makes the account if there is none.
    pub(crate) async fn of_owner(server: &'a Server) -> Self {
        let browser = Self::new(server);
        match server.engine.setup_code().await.expect("an answer") {
            Some(code) => {
                let form = [("code", code.as_str()), ("email", OWNER), ("password", PASSWORD)];
                browser.post("/setup", &form).await.sent_to("/sites");
            }
            None => browser.sign_in(OWNER, PASSWORD).await.sent_to("/sites"),
        }
        browser
    }

    /// One whose user is a member of a site, by an invitation of `by`.
    pub(crate) async fn of_member(server: &'a Server, by: &Browser<'_>, site_id: &str, email: &str, role: &str) -> Self {
        let browser = Self::new(server);
        let link = by.invite(site_id, role).await;
        let form = [("email", email), ("password", PASSWORD)];
        browser.post(&link, &form).await.sent_to(&format!("/sites/{site_id}"));
        browser
    }

    /// The cookie that it sends.
    pub(crate) fn cookie(&self) -> Option<String> {
        self.cookie.borrow().clone()
    }

    /// Makes a link to a site, and returns its path.
    pub(crate) async fn invite(&self, site_id: &str, role: &str) -> String {
        let page = self.submit(&format!("/sites/{site_id}/people"), &[("role", role)]).await;
        let link = page.html(200).split("value=\"http://127.0.0.1:8090").nth(1).and_then(|rest| rest.split('"').next());
        link.expect("a link").to_owned()
    }

    pub(crate) async fn sign_in(&self, email: &str, password: &str) -> Answer {
        self.post("/sign-in", &[("email", email), ("password", password)]).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path), Body::empty()).await
    }

    /// Sends a form from a page of the server.
    pub(crate) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.post_from("same-origin", path, fields).await
    }

    /// Sends a form from a page of the server, and goes on to where that leads.
    pub(crate) async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let sent = self.post(path, fields).await;
        assert_eq!(sent.status, 303, "{}", sent.text());
        self.get(sent.location()).await
    }

    /// Sends a form, from where `Sec-Fetch-Site` says.
    pub(crate) async fn post_from(&self, site: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body: String = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request =
            Request::post(path).header(CONTENT_TYPE, "application/x-www-form-urlencoded").header("sec-fetch-site", site);
        self.send(request, Body::from(body)).await
    }

    pub(crate) async fn send(&self, request: Builder, body: Body) -> Answer {
        let mut request = request.header(USER_AGENT, FIREFOX);
        if let Some(cookie) = &*self.cookie.borrow() {
            request = request.header(COOKIE, format!("other=1; {cookie}"));
        }
        if let Some(address) = self.address {
            request = request.header("x-forwarded-for", address);
        }
        let answer = self.server.send(request.body(body).expect("a request")).await;
        if let Some(set) = answer.header("set-cookie") {
            let pair = set.split(';').next().expect("a cookie").to_owned();
            self.cookie.replace((!pair.ends_with('=')).then_some(pair));
        }
        answer
    }
}
