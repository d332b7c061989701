//! What a process does, where several share the work.

use std::fmt;
use std::str::FromStr;

/// Which parts of the work a process does. It has one at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Answers people and programs: the pages and the REST API.
    pub web: bool,
    /// Takes events in.
    pub ingest: bool,
    /// Sends deliveries, and cares for what becomes of them.
    pub dispatch: bool,
    /// Evaluates what is counted in storage that all share.
    pub detect: bool,
}

/// A text names no roles.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one or more of web, ingest, dispatch and detect")]
pub struct NoRoles;

impl Roles {
    /// Everything, as one process does it that is alone.
    pub const ALL: Self = Self { web: true, ingest: true, dispatch: true, detect: true };
    const NONE: Self = Self { web: false, ingest: false, dispatch: false, detect: false };
}

/// Names with commas between them.
impl FromStr for Roles {
    type Err = NoRoles;

    fn from_str(text: &str) -> Result<Self, NoRoles> {
        let mut roles = Self::NONE;
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                "web" => roles.web = true,
                "ingest" => roles.ingest = true,
                "dispatch" => roles.dispatch = true,
                "detect" => roles.detect = true,
                _ => return Err(NoRoles),
            }
        }
        if roles == Self::NONE { Err(NoRoles) } else { Ok(roles) }
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { web, ingest, dispatch, detect } = *self;
        let all = [("web", web), ("ingest", ingest), ("dispatch", dispatch), ("detect", detect)];
        let names: Vec<_> = all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_and_shown() {
        let cases = [
            ("web,ingest,dispatch,detect", Roles::ALL, "web,ingest,dispatch,detect"),
            (" dispatch, web ,", Roles { web: true, dispatch: true, ..Roles::NONE }, "web,dispatch"),
            ("ingest,ingest", Roles { ingest: true, ..Roles::NONE }, "ingest"),
            ("detect", Roles { detect: true, ..Roles::NONE }, "detect"),
        ];
        for (text, roles, shown) in cases {
            assert_eq!(text.parse(), Ok(roles), "{text}");
            assert_eq!(roles.to_string(), shown);
        }
        for bad in ["", ",", "all", "web,send", "Web"] {
            assert_eq!(bad.parse::<Roles>(), Err(NoRoles), "{bad}");
        }
    }
}
