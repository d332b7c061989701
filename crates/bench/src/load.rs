//! The load generator: many connections that send numbered requests.
//!
//! In a closed loop each connection sends its next request when the last is answered; in an open loop requests leave on time,
//! whether the server keeps up or not. An answer other than the expected one ends the run.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::connection::Connection;
use crate::failure::{Result, within};
use crate::template::Template;

/// No run is longer; a server that hangs does not hang the bench.
const RUN_LIMIT: Duration = Duration::from_secs(1_800);
/// Until the first request of an open loop, so that every connection is there in time.
const LEAD: Duration = Duration::from_millis(50);

/// Who is sent what.
pub(crate) struct Load {
    /// The server.
    pub(crate) address: SocketAddr,
    /// How many connections share the work.
    pub(crate) connections: usize,
    /// What is sent.
    pub(crate) requests: Requests,
    /// The status that all answers must have.
    pub(crate) expected: u16,
}

/// What is sent for a number.
#[derive(Clone)]
pub(crate) enum Requests {
    /// Each of them, in this order.
    Each(Vec<Template>),
    /// One of them: they take turns.
    InTurn(Vec<Template>),
}

/// What came of a closed loop.
#[derive(Clone, Copy)]
pub(crate) struct Flood {
    /// How many numbers were sent and answered.
    pub(crate) answered: u64,
    /// When the first was sent.
    pub(crate) started: Instant,
    /// How long it took until the last was answered.
    pub(crate) elapsed: Duration,
}

impl Flood {
    /// Numbers a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64()
    }
}

impl Requests {
    fn of(&mut self, number: u64) -> &mut [Template] {
        match self {
            Self::Each(requests) => requests,
            Self::InTurn(requests) => {
                let turn = (number % requests.len().max(1) as u64) as usize;
                requests.get_mut(turn..=turn).unwrap_or_default()
            }
        }
    }
}

impl Load {
    /// Events for a server that is to answer 202.
    pub(crate) fn of_events(address: SocketAddr, connections: usize, event: Template) -> Self {
        Self { address, connections, requests: Requests::Each(vec![event]), expected: 202 }
    }

    /// Sends each number of a range once, as fast as the answers come.
    pub(crate) async fn each(&self, numbers: Range<u64>) -> Result<Flood> {
        let next = Arc::new(AtomicU64::new(numbers.start));
        self.closed_loop(move || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < numbers.end)).await
    }

    /// Sends the numbers below `numbers` over and over for a while, as fast as the answers come.
    pub(crate) async fn around(&self, numbers: u64, duration: Duration) -> Result<Flood> {
        let next = Arc::new(AtomicU64::new(0));
        let end = Instant::now() + duration;
        self.closed_loop(move || (Instant::now() < end).then(|| next.fetch_add(1, Ordering::Relaxed) % numbers)).await
    }

    /// Sends a request every `interval`, numbered from the range, and answers when each was sent. One that had to wait
    /// because all connections waited for answers counts from when it was due.
    pub(crate) async fn evenly(&self, numbers: Range<u64>, interval: Duration) -> Result<Vec<(u64, Instant)>> {
        let connections = self.connect().await?;
        let start = Instant::now() + LEAD;
        let mut tasks = JoinSet::new();
        for (offset, connection) in connections.into_iter().enumerate() {
            let own = numbers.clone().skip(offset).step_by(self.connections);
            let due = own.map(|number| (number, start + interval.mul_f64((number - numbers.start) as f64))).collect();
            tasks.spawn(send_when_due(connection, self.requests.clone(), self.expected, due));
        }
        within(RUN_LIMIT, "a run at a steady rate", join(tasks)).await.map(|sent| sent.concat())
    }

    async fn closed_loop(&self, next: impl Fn() -> Option<u64> + Clone + Send + 'static) -> Result<Flood> {
        let connections = self.connect().await?;
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for connection in connections {
            tasks.spawn(send_all(connection, self.requests.clone(), self.expected, next.clone()));
        }
        let answered = within(RUN_LIMIT, "a run", join(tasks)).await?.iter().sum();
        Ok(Flood { answered, started, elapsed: started.elapsed() })
    }

    async fn connect(&self) -> Result<Vec<Connection>> {
        let mut connections = Vec::with_capacity(self.connections);
        for _ in 0..self.connections {
            connections.push(Connection::open(self.address).await?);
        }
        Ok(connections)
    }
}

async fn send_all(
    mut connection: Connection,
    mut requests: Requests,
    expected: u16,
    next: impl Fn() -> Option<u64>,
) -> Result<u64> {
    let mut answered = 0;
    while let Some(number) = next() {
        for request in requests.of(number) {
            connection.exchange(request, number, expected).await?;
        }
        answered += 1;
    }
    Ok(answered)
}

async fn send_when_due(
    mut connection: Connection,
    mut requests: Requests,
    expected: u16,
    due: Vec<(u64, Instant)>,
) -> Result<Vec<(u64, Instant)>> {
    let mut sent = Vec::with_capacity(due.len());
    for (number, due) in due {
        sent.push((number, reach(due).await));
        for request in requests.of(number) {
            connection.exchange(request, number, expected).await?;
        }
    }
    Ok(sent)
}

/// Waits until `due`, and answers what time it is then. That the timer is up to a millisecond late is not the server's fault;
/// that the connection was busy when the time came is.
async fn reach(due: Instant) -> Instant {
    if Instant::now() >= due {
        return due;
    }
    tokio::time::sleep_until(due.into()).await;
    Instant::now()
}

/// The results of all tasks, or the first failure, which ends the others.
async fn join<T: 'static>(mut tasks: JoinSet<Result<T>>) -> Result<Vec<T>> {
    let mut results = Vec::with_capacity(tasks.len());
    while let Some(result) = tasks.join_next().await {
        results.push(result??);
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_a_number() {
        let requests = || ["a", "b", "c"].map(|domain| Template::event(domain, "Signup")).to_vec();
        let bytes =
            |requests: &mut [Template]| requests.iter_mut().map(|request| request.numbered(0).to_vec()).collect::<Vec<_>>();
        let all = bytes(&mut requests());
        assert_eq!(bytes(Requests::Each(requests()).of(4)), all);
        for (number, turn) in [(0, 0), (1, 1), (2, 2), (3, 0), (10, 1)] {
            assert_eq!(bytes(Requests::InTurn(requests()).of(number)), [all[turn].clone()], "{number}");
        }
        assert!(Requests::InTurn(Vec::new()).of(0).is_empty());
    }
}
