//! Templates that come with Bellwether, for services that many people use.
//!
//! Each is a file of the same language as everybody's templates. What its service takes is documented by the service, and tested.

use std::sync::LazyLock;

use crate::template::{ContentType, Template};

/// A template that comes with Bellwether.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// An incoming webhook of Slack.
    Slack,
    /// A webhook of a Discord channel.
    Discord,
    /// A workflow of Microsoft Teams that posts cards.
    Teams,
    /// A webhook of a Google Chat space.
    GoogleChat,
    /// An incoming webhook of Mattermost.
    Mattermost,
    /// A bot of Telegram.
    Telegram,
    /// A topic of ntfy.
    Ntfy,
    /// The events API of PagerDuty.
    Pagerduty,
    /// The alert API of Opsgenie.
    Opsgenie,
    /// Zapier, Make, n8n and whatever else takes JSON as it is.
    Plain,
}

/// A parameter that a preset needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needed {
    /// Its name.
    pub name: &'static str,
    /// What it is, for people.
    pub title: &'static str,
}

static TEMPLATES: LazyLock<[Template; Preset::ALL.len()]> = LazyLock::new(|| {
    Preset::ALL.map(|preset| {
        let content_type = if preset == Preset::Ntfy { ContentType::plain() } else { ContentType::default() };
        Template::kept(preset.source(), content_type)
    })
});

impl Preset {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Slack,
        Self::Discord,
        Self::Teams,
        Self::GoogleChat,
        Self::Mattermost,
        Self::Telegram,
        Self::Ntfy,
        Self::Pagerduty,
        Self::Opsgenie,
        Self::Plain,
    ];

    /// Its name in the API and in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Discord => "discord",
            Self::Teams => "teams",
            Self::GoogleChat => "google_chat",
            Self::Mattermost => "mattermost",
            Self::Telegram => "telegram",
            Self::Ntfy => "ntfy",
            Self::Pagerduty => "pagerduty",
            Self::Opsgenie => "opsgenie",
            Self::Plain => "plain",
        }
    }

    /// Its name for people, and where requests go.
    pub fn title(self) -> (&'static str, &'static str) {
        match self {
            Self::Slack => ("Slack", "https://hooks.slack.com/services/…"),
            Self::Discord => ("Discord", "https://discord.com/api/webhooks/…"),
            Self::Teams => ("Microsoft Teams", "the URL of the workflow “Post to a channel when a webhook request is received”"),
            Self::GoogleChat => ("Google Chat", "https://chat.googleapis.com/v1/spaces/…"),
            Self::Mattermost => ("Mattermost", "https://your-mattermost/hooks/…"),
            Self::Telegram => ("Telegram", "https://api.telegram.org/bot<token>/sendMessage"),
            Self::Ntfy => ("ntfy", "https://ntfy.sh/your-topic"),
            Self::Pagerduty => ("PagerDuty", "https://events.pagerduty.com/v2/enqueue"),
            Self::Opsgenie => ("Opsgenie", "https://api.opsgenie.com/v2/alerts, with the header Authorization: GenieKey …"),
            Self::Plain => ("Zapier, Make, n8n", "the URL of the webhook that begins your workflow"),
        }
    }

    /// The preset of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// The parameters that it needs.
    pub fn needs(self) -> &'static [Needed] {
        match self {
            Self::Telegram => &[Needed { name: "chat_id", title: "Chat id" }],
            Self::Pagerduty => &[Needed { name: "routing_key", title: "Integration key" }],
            _ => &[],
        }
    }

    /// The template itself.
    pub fn template(self) -> &'static Template {
        &TEMPLATES[self as usize]
    }

    fn source(self) -> &'static str {
        match self {
            Self::Slack => include_str!("../presets/slack.json"),
            Self::Discord => include_str!("../presets/discord.json"),
            Self::Teams => include_str!("../presets/teams.json"),
            Self::GoogleChat => include_str!("../presets/google_chat.json"),
            Self::Mattermost => include_str!("../presets/mattermost.json"),
            Self::Telegram => include_str!("../presets/telegram.json"),
            Self::Ntfy => include_str!("../presets/ntfy.txt"),
            Self::Pagerduty => include_str!("../presets/pagerduty.json"),
            Self::Opsgenie => include_str!("../presets/opsgenie.json"),
            Self::Plain => include_str!("../presets/plain.json"),
        }
    }
}

#[cfg(test)]
mod tests;
