//! Somebody in front of a browser, who finds things by what they are called.

use std::cell::{Cell, RefCell};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use thirtyfour::error::{WebDriverErrorInner, WebDriverResult};
use thirtyfour::{By, Key, WebDriver, WebElement};

use super::looks::LOOKS;
use crate::browser::pages::file;
use crate::support::{TIME_LIMIT, within};

const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// The rules of axe-core, run on the page; what breaks them.
const AXE: &str = "const done = arguments[arguments.length - 1];
    axe.run(document).then((results) => done(results.violations.map((rule) =>
        rule.id + ': ' + rule.nodes.map((node) => node.html + ' ' + node.failureSummary).join(' | '))));";
/// The id and the name of what has the focus.
const FOCUSED: &str = "const { id, innerText, ariaLabel } = document.activeElement; return [id, ariaLabel || innerText.trim()]";
/// A page is asked for anew far more seldom than somebody clicks.
const MAX_TRIES: usize = 5;
/// More than any page has to be reached.
const MAX_TABS: usize = 100;
/// The page is loaded anew; this tells the one that was left.
const LEFT: &str = "document.documentElement.dataset.left = 'yes'";
const IS_THERE: &str = "return document.readyState === 'complete' && document.documentElement.dataset.left !== 'yes'";

/// One person, one window.
pub(super) struct Person<'a> {
    driver: &'a WebDriver,
    server: SocketAddr,
    clicks: Cell<u32>,
    fields: Cell<u32>,
    /// The paths of the pages that were looked at in every way.
    pub(super) looked_at: RefCell<Vec<String>>,
    /// Where pictures go, if they are taken.
    pub(super) screenshots: Option<PathBuf>,
}

impl<'a> Person<'a> {
    pub(super) fn new(driver: &'a WebDriver, server: SocketAddr) -> Self {
        let (clicks, fields) = (Cell::new(0), Cell::new(0));
        Self { driver, server, clicks, fields, looked_at: RefCell::default(), screenshots: None }
    }

    /// How often something was clicked.
    pub(super) fn clicks(&self) -> u32 {
        self.clicks.get()
    }

    /// How many fields were filled in.
    pub(super) fn fields(&self) -> u32 {
        self.fields.get()
    }

    pub(super) async fn open(&self, path: &str) -> WebDriverResult<()> {
        self.driver.goto(format!("http://{}{path}", self.server)).await
    }

    /// Types into a field in place of what it holds.
    pub(super) async fn fill(&self, id: &str, text: &str) -> WebDriverResult<()> {
        self.fields.set(self.fields.get() + 1);
        let field = self.driver.find(By::Id(id)).await?;
        field.clear().await?;
        field.send_keys(text).await
    }

    pub(super) async fn choose(&self, id: &str, value: &str) -> WebDriverResult<()> {
        self.driver.find(By::Css(format!("#{id} option[value='{value}']"))).await?.click().await
    }

    pub(super) async fn tick(&self, css: &str) -> WebDriverResult<()> {
        self.driver.find(By::Css(css)).await?.click().await
    }

    /// Presses a button that sends nothing.
    pub(super) async fn click(&self, name: &str) -> WebDriverResult<()> {
        self.named("button", name).await?.click().await
    }

    /// Puts what was copied in place of what a field holds.
    pub(super) async fn paste(&self, id: &str) -> WebDriverResult<()> {
        let field = self.driver.find(By::Id(id)).await?;
        field.clear().await?;
        field.send_keys(Key::Control + "v").await
    }

    /// Moves on with the Tab key until something of this name, or of this id, has the focus.
    pub(super) async fn tab_to(&self, name: &str) -> WebDriverResult<()> {
        for _ in 0..MAX_TABS {
            self.driver.action_chain().send_keys(Key::Tab).perform().await?;
            let focused = self.driver.execute(FOCUSED, Vec::new()).await?.convert::<(String, String)>()?;
            if focused.0 == name || focused.1.starts_with(name) {
                return Ok(());
            }
        }
        panic!("the Tab key leads to no {name}");
    }

    /// Types into what has the focus.
    pub(super) async fn type_text(&self, text: &str) -> WebDriverResult<()> {
        self.driver.action_chain().send_keys(text).perform().await
    }

    /// Presses Enter, which leads to another page.
    pub(super) async fn enter(&self) -> WebDriverResult<()> {
        self.driver.execute(LEFT, Vec::new()).await?;
        self.driver.action_chain().send_keys(Key::Enter).perform().await?;
        self.arrives().await;
        Ok(())
    }

    /// Presses a button that sends a form.
    pub(super) async fn press(&self, name: &str) -> WebDriverResult<()> {
        self.leave_by("button", name).await
    }

    /// Follows a link.
    pub(super) async fn follow(&self, name: &str) -> WebDriverResult<()> {
        self.leave_by("a", name).await
    }

    /// Opens what is folded.
    pub(super) async fn unfold(&self, name: &str) -> WebDriverResult<()> {
        self.clicks.set(self.clicks.get() + 1);
        self.named("summary", name).await?.click().await
    }

    /// Waits until the page has a text.
    pub(super) async fn sees(&self, text: &str) {
        self.waits_for(text, async || Ok(self.driver.find(By::Tag("main")).await?.text().await?.contains(text))).await;
    }

    /// Waits until something is so.
    pub(super) async fn waits_for(&self, what: &str, is_so: impl AsyncFn() -> WebDriverResult<bool>) {
        let waiting = async {
            let mut looks = tokio::time::interval(LOOK_INTERVAL);
            // A page that is just being replaced has nothing to be found.
            while !is_so().await.unwrap_or(false) {
                looks.tick().await;
            }
        };
        if tokio::time::timeout(TIME_LIMIT / 3, waiting).await.is_err() {
            let text = match self.driver.find(By::Tag("main")).await {
                Ok(main) => main.text().await.unwrap_or_default(),
                Err(error) => error.to_string(),
            };
            panic!("no {what}; the page says: {text}");
        }
    }

    pub(super) async fn text_of(&self, id: &str) -> WebDriverResult<String> {
        self.driver.find(By::Id(id)).await?.text().await
    }

    pub(super) async fn value_of(&self, id: &str) -> WebDriverResult<String> {
        Ok(self.driver.find(By::Id(id)).await?.value().await?.unwrap_or_default())
    }

    pub(super) async fn row_of(&self, text: &str) -> WebDriverResult<String> {
        self.driver.find(By::XPath(format!("//tbody/tr[contains(., '{text}')]"))).await?.text().await
    }

    pub(super) async fn count(&self, css: &str) -> WebDriverResult<usize> {
        Ok(self.driver.find_all(By::Css(css)).await?.len())
    }

    /// Opens pages and looks at each of them.
    pub(super) async fn check(&self, pages: &[(&str, String)]) -> WebDriverResult<()> {
        for (name, path) in pages {
            self.open(path).await?;
            self.check_shown(name).await?;
        }
        Ok(())
    }

    /// Looks at the page that is shown in every way: it breaks no rule of accessibility, and is no wider than the window.
    pub(super) async fn check_shown(&self, name: &str) -> WebDriverResult<()> {
        let path = self.driver.current_url().await?.path().to_owned();
        self.looked_at.borrow_mut().push(path);
        let axe = fs::read_to_string(file("node_modules/axe-core/axe.min.js")).expect("the rules");
        self.driver.execute(&axe, Vec::new()).await?;
        for (look, scheme, width) in LOOKS {
            self.look(scheme, width).await?;
            let broken: Vec<String> = self.driver.execute_async(AXE, Vec::new()).await?.convert()?;
            assert!(broken.is_empty(), "{name} in {look}: {broken:#?}");
            let wide = self.driver.execute("return document.documentElement.scrollWidth", Vec::new()).await?;
            let wide: u32 = wide.convert()?;
            assert!(wide <= width, "{name} in {look} is {wide} pixels wide");
            if let Some(folder) = &self.screenshots {
                self.picture(&folder.join(format!("{name}-{look}.png"))).await?;
            }
        }
        self.look("light", 1_280).await
    }

    /// Of the whole page, not of what fits into the window.
    async fn picture(&self, to: &std::path::Path) -> WebDriverResult<()> {
        let tools = self.driver.cdp();
        let picture = tools.send_raw("Page.captureScreenshot", json!({"captureBeyondViewport": true})).await?;
        let png = BASE64_STANDARD.decode(picture["data"].as_str().expect("a picture")).expect("base64");
        fs::write(to, png).expect("written");
        Ok(())
    }

    async fn look(&self, scheme: &str, width: u32) -> WebDriverResult<()> {
        let tools = self.driver.cdp();
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        tools.send_raw("Emulation.setEmulatedMedia", features).await?;
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        let _: Value = tools.send_raw("Emulation.setDeviceMetricsOverride", size).await?;
        Ok(())
    }

    async fn named(&self, tag: &str, name: &str) -> WebDriverResult<WebElement> {
        let exact = format!("//{tag}[not(@aria-hidden)][normalize-space(.)='{name}' or @aria-label='{name}']");
        match self.driver.find(By::XPath(exact)).await {
            Ok(found) => Ok(found),
            // A name may go on for those who do not see where it stands.
            Err(_) => {
                self.driver
                    .find(By::XPath(format!("//{tag}[not(@aria-hidden)][starts-with(normalize-space(.), '{name}')]")))
                    .await
            }
        }
    }

    async fn leave_by(&self, tag: &str, name: &str) -> WebDriverResult<()> {
        self.clicks.set(self.clicks.get() + 1);
        self.driver.execute(LEFT, Vec::new()).await?;
        for _ in 0..MAX_TRIES {
            let found = self.named(tag, name).await.unwrap_or_else(|error| panic!("no {name}: {error}"));
            match found.click().await {
                // A page that shows what is new has put it in the place of what was found.
                Err(error) if matches!(error.as_inner(), WebDriverErrorInner::StaleElementReference(_)) => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    self.arrives().await;
                    return Ok(());
                }
            }
        }
        panic!("{name} is replaced again and again");
    }

    async fn arrives(&self) {
        let arrival = async {
            let mut looks = tokio::time::interval(LOOK_INTERVAL);
            while !self.is_there().await {
                looks.tick().await;
            }
        };
        within("the next page", arrival).await;
    }

    async fn is_there(&self) -> bool {
        let answer = self.driver.execute(IS_THERE, Vec::new()).await;
        answer.and_then(|answer| answer.convert::<bool>()).unwrap_or(false)
    }
}
