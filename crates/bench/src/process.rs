//! A program that serves HTTP, run as a child that does not outlive the bench.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::failure::{Failure, Result, within};

const START_LIMIT: Duration = Duration::from_secs(120);
const READY: &str = "listening on http://";

/// A running program. It is killed when it is dropped.
pub(crate) struct Process {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    child: Child,
    /// Kept, so that what else it may write goes somewhere.
    _output: Lines<BufReader<ChildStdout>>,
}

/// How much memory a program has, in MiB.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Memory {
    /// Now.
    pub(crate) resident_mib: f64,
    /// At most so far.
    pub(crate) peak_mib: f64,
}

impl Process {
    /// Starts a program and waits for the line in which it says where it listens.
    pub(crate) async fn start(mut command: Command) -> Result<Self> {
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|source| Failure::Start { program: program.clone(), source })?;
        let output = child.stdout.take().ok_or_else(|| not_ready(&program, "it has no standard output"))?;
        let mut output = BufReader::new(output).lines();
        let line = async { Ok(output.next_line().await?) };
        let line = within(START_LIMIT, &format!("the start of {program}"), line).await?;
        let line = line.ok_or_else(|| not_ready(&program, "it ended"))?;
        let address = address_in(&line).ok_or_else(|| not_ready(&program, &line))?;
        Ok(Self { address, child, _output: output })
    }

    /// Kills it, and waits until it is gone.
    pub(crate) async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// How much memory it has.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let id = self.child.id().ok_or_else(|| Failure::Void("the server has ended".to_owned()))?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        memory_in(&status).ok_or_else(|| Failure::Void("the server has ended".to_owned()))
    }
}

fn not_ready(program: &str, said: &str) -> Failure {
    Failure::NotReady { program: program.to_owned(), said: said.to_owned() }
}

fn address_in(line: &str) -> Option<SocketAddr> {
    line.strip_prefix(READY)?.trim_end_matches('/').parse().ok()
}

/// Reads `/proc/<pid>/status`.
fn memory_in(status: &str) -> Option<Memory> {
    let mib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib / 1024.0)
    };
    Some(Memory { resident_mib: mib("VmRSS:")?, peak_mib: mib("VmHWM:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line() {
        let address = SocketAddr::from(([127, 0, 0, 1], 4711));
        assert_eq!(address_in("listening on http://127.0.0.1:4711"), Some(address));
        assert_eq!(address_in("listening on http://127.0.0.1:4711/"), Some(address));
        assert_eq!(address_in("listening"), None);
    }

    #[test]
    fn memory_of_a_process() {
        let status = "Name:\tbellwether\nVmPeak:\t  999 kB\nVmHWM:\t  4096 kB\nVmRSS:\t    1536 kB\nThreads:\t3\n";
        assert_eq!(memory_in(status), Some(Memory { resident_mib: 1.5, peak_mib: 4.0 }));
        assert_eq!(memory_in("Name:\tgone\nState:\tZ (zombie)\n"), None);
    }
}
