//! `--wait`: how an assignment reaches the fleet, until every connected node has answered or the time is over.
//!
//! What was assigned stays assigned, whatever becomes of the waiting: a lost connection is tried again until the time is
//! over, and whoever presses Ctrl-C is told how to go on watching.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use serde_json::{Value, json};
use switchtower_client::control::{
    Client, Refusal,
    wire::{AwaitAssignmentRequest, AwaitAssignmentResponse, Node, RegionSummary, await_assignment_response::Verdict},
};

use crate::{
    control::Connection,
    duration, fleet,
    output::{ERROR, Exit, Failure, GOOD, Output, WARNING, printable},
    violations::counted,
    when,
};

/// Longest that the control plane waits.
const LONGEST: Duration = Duration::from_secs(3600);
/// How much longer than it was asked to the control plane may take to say that the time is over.
const GRACE: Duration = Duration::from_secs(5);
/// Between two tries to reach a control plane that went away.
const AGAIN: Duration = Duration::from_millis(500);
/// Most nodes that are named in a line.
const NAMED: usize = 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Wait {
    /// Wait until every connected node serves it or has refused it.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait, up to 1h.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = timeout, requires = "wait")]
    timeout: Duration,
}

fn timeout(text: &str) -> Result<Duration, String> {
    duration::parse(text)
        .and_then(|timeout| if timeout <= LONGEST { Ok(timeout) } else { Err("at most 1h".to_owned()) })
}

/// How waiting ended.
pub(crate) struct Waited {
    pub(crate) exit: Exit,
    /// For people.
    pub(crate) text: String,
    /// For programs.
    pub(crate) document: Value,
}

/// Waits for an assignment of an environment; 0: the present one.
pub(crate) async fn wait(
    args: &Wait,
    client: &Client,
    connection: &Connection,
    environment: &str,
    assignment: u64,
    output: Output,
) -> Result<Waited, Failure> {
    let ends = Instant::now() + args.timeout;
    let request = AwaitAssignmentRequest { environment: environment.to_owned(), assignment, timeout: None };
    let mut line = Line::new(output);
    tokio::select! {
        last = tokio::time::timeout(args.timeout + GRACE, last(request, ends, client, connection, &mut line)) => {
            line.clear();
            match last {
                Ok(last) => last.map(|last| waited(&last)).map_err(|failure| go_on(failure, environment)),
                Err(_) => {
                    let failure = Failure::new(Exit::Late, "the control plane does not tell what nodes answered");
                    Err(go_on(failure, environment))
                }
            }
        }
        interrupted = tokio::signal::ctrl_c() => {
            line.clear();
            match interrupted {
                Ok(()) => Err(go_on(Failure::new(Exit::Interrupted, "interrupted while nodes take it"), environment)),
                Err(error) => Err(Failure::new(Exit::Failed, format!("Ctrl-C cannot be watched: {error}"))),
            }
        }
    }
}

/// Only the waiting came to nothing.
fn go_on(failure: Failure, environment: &str) -> Failure {
    failure.next(format!(
        "it is assigned, and nodes go on taking it: `switchtower watch -e {environment}` and `switchtower status -e \
         {environment}` tell how far they are"
    ))
}

/// The last message, through whatever number of connections.
async fn last(
    mut request: AwaitAssignmentRequest,
    ends: Instant,
    client: &Client,
    connection: &Connection,
    line: &mut Line,
) -> Result<AwaitAssignmentResponse, Failure> {
    loop {
        let left = ends.saturating_duration_since(Instant::now());
        request.timeout = prost_types::Duration::try_from(left).ok();
        let error = match client.await_assignment(request.clone()).await {
            Err(error) => error,
            Ok(mut updates) => loop {
                match updates.next().await {
                    Some(Ok(update)) if update.verdict() != Verdict::Unspecified => return Ok(update),
                    Some(Ok(update)) => {
                        // The present one is known now, and a newer one is not what was asked for.
                        request.assignment = update.assignment;
                        line.show(&progress(&update));
                    }
                    Some(Err(error)) => break error,
                    // The client makes an error of a stream without a verdict.
                    None => return Err(Failure::new(Exit::Again, "the stream stopped before its end")),
                }
            },
        };
        if *error.refusal() != Refusal::Unavailable || ends <= Instant::now() {
            return Err(connection.failure(&error));
        }
        line.show("the control plane is not there: trying again");
        tokio::time::sleep(AGAIN).await;
    }
}

fn progress(update: &AwaitAssignmentResponse) -> String {
    let sums = Sums::of(&update.regions);
    let missing = sums.connected.saturating_sub(sums.serving + sums.refused);
    format!(
        "revision {}: {} of {} nodes serve it, {} refused it, {missing} have not answered, {}",
        update.revision,
        sums.serving,
        sums.connected,
        sums.refused,
        duration::words(when::length(update.elapsed.as_ref())),
    )
}

struct Sums {
    connected: u64,
    serving: u64,
    refused: u64,
    /// Seen before, and without a stream.
    unknown: u64,
    regions: usize,
}

impl Sums {
    fn of(regions: &[RegionSummary]) -> Self {
        Sums {
            connected: regions.iter().map(|region| region.connected).sum(),
            serving: regions.iter().map(|region| region.serving).sum(),
            refused: regions.iter().map(|region| region.refused).sum(),
            unknown: regions.iter().map(|region| region.unknown).sum(),
            regions: regions.iter().filter(|region| region.connected > 0 && !region.region.is_empty()).count(),
        }
    }
}

fn waited(last: &AwaitAssignmentResponse) -> Waited {
    let (exit, word) = match last.verdict() {
        // Who waits wants it to serve, and nobody is there who could say so.
        Verdict::Served if Sums::of(&last.regions).connected == 0 => (Exit::Late, "nobody_connected"),
        Verdict::Served | Verdict::Unspecified => (Exit::Success, "served"),
        Verdict::Refused => (Exit::Refused, "refused"),
        Verdict::TimedOut => (Exit::Late, "timed_out"),
        Verdict::Superseded => (Exit::Conflict, "superseded"),
    };
    let style = match exit {
        Exit::Success => GOOD,
        Exit::Refused => ERROR,
        _ => WARNING,
    };
    let sums = Sums::of(&last.regions);
    Waited {
        exit,
        text: format!("{style}{}{style:#}{}{}\n", words(last, &sums), reasons(&last.refused), unknown(&sums)),
        document: json!({
            "verdict": word,
            "assignment": last.assignment,
            "revision": last.revision,
            "elapsed_ms": when::millis(when::length(last.elapsed.as_ref())),
            "connected": sums.connected,
            "serving": sums.serving,
            "refused": sums.refused,
            "regions": fleet::regions(&last.regions),
            "refused_by": last.refused.iter().map(fleet::node).collect::<Vec<_>>(),
            "missing": last.missing.iter().map(fleet::node).collect::<Vec<_>>(),
        }),
    }
}

/// `412 of 412 nodes in 4 regions serve revision 87, 640 ms; 2 refused it, because …`
fn words(last: &AwaitAssignmentResponse, sums: &Sums) -> String {
    let revision = last.revision;
    if sums.connected == 0 {
        return format!("revision {revision} is assigned, and no node is connected to take it");
    }
    let nodes = counted(usize::try_from(sums.connected).unwrap_or(usize::MAX), "node");
    let regions = if sums.regions > 0 { format!(" in {}", counted(sums.regions, "region")) } else { String::new() };
    let elapsed = duration::words(when::length(last.elapsed.as_ref()));
    let mut text = format!("{} of {nodes}{regions} serve revision {revision}, {elapsed}", sums.serving);
    let missing = sums.connected.saturating_sub(sums.serving + sums.refused);
    if missing > 0 && last.verdict() == Verdict::TimedOut {
        let have = if missing == 1 { "has" } else { "have" };
        text.push_str(&format!("; {missing} {have} not answered{}", names(&last.missing)));
    }
    if last.verdict() == Verdict::Superseded {
        text.push_str("; a newer assignment has taken its place");
    }
    if sums.refused > 0 {
        text.push_str(&format!("; {} refused it", sums.refused));
    }
    text
}

/// What is not known of, in a sentence's end: nodes that were seen before may serve anything.
fn unknown(sums: &Sums) -> String {
    match sums.unknown {
        0 => String::new(),
        1 => "; 1 known node is not connected".to_owned(),
        many => format!("; {many} known nodes are not connected"),
    }
}

/// `: a, b and 3 more`, or nothing.
fn names(nodes: &[Node]) -> String {
    if nodes.is_empty() {
        return String::new();
    }
    let shown: Vec<&str> = nodes.iter().take(NAMED).map(|node| node.id.as_str()).collect();
    let more = nodes.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(": {}{more}", printable(&shown.join(", ")))
}

/// Why nodes refused it, in the sentence where there is one reason and below it where there are several.
fn reasons(nodes: &[Node]) -> String {
    let mut by_reason: BTreeMap<String, Vec<Node>> = BTreeMap::new();
    for node in nodes {
        by_reason.entry(fleet::reason(node)).or_default().push(node.clone());
    }
    let told = |(reason, nodes): (&String, &Vec<Node>)| {
        let nodes = names(nodes);
        format!("{} ({})", printable(reason), nodes.trim_start_matches(": "))
    };
    match by_reason.len() {
        0 => String::new(),
        1 => by_reason.iter().map(|reason| format!(", because {}", told(reason))).collect(),
        _ => format!(":{}", by_reason.iter().map(|reason| format!("\n  {}", told(reason))).collect::<String>()),
    }
}

/// One line of standard error that is written over, where somebody sees it.
pub(crate) struct Line {
    shows: bool,
    written: bool,
}

impl Line {
    pub(crate) fn new(output: Output) -> Self {
        Line { shows: !output.is_json() && io::stderr().is_terminal(), written: false }
    }

    pub(crate) fn show(&mut self, text: &str) {
        if self.shows {
            self.written = true;
            // Nobody is left to tell that nobody sees it.
            let _ = write!(io::stderr().lock(), "\r\u{1b}[2K{}", printable(text)).and_then(|()| io::stderr().flush());
        }
    }

    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.written) {
            let _ = write!(io::stderr().lock(), "\r\u{1b}[2K").and_then(|()| io::stderr().flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use switchtower_client::control::wire::{self, Violation};

    use super::*;

    fn region(name: &str, connected: u64, serving: u64, refused: u64) -> RegionSummary {
        RegionSummary { region: name.to_owned(), connected, serving, refused, unknown: 0 }
    }

    fn refusing(id: &str, message: &str) -> Node {
        let violation = Violation { code: "unknown_word".into(), path: "routes.a".into(), message: message.into() };
        let refused = Some(wire::Refusal { revision: 87, at: None, violations: vec![violation] });
        Node { id: id.to_owned(), refused, ..Node::default() }
    }

    #[track_caller]
    fn check(
        verdict: Verdict,
        regions: &[RegionSummary],
        refused: &[Node],
        missing: &[&str],
        exit: Exit,
        expected: &str,
    ) {
        let waited = waited(&AwaitAssignmentResponse {
            assignment: 91,
            revision: 87,
            regions: regions.to_vec(),
            elapsed: Some(prost_types::Duration { seconds: 0, nanos: 640_000_000 }),
            verdict: verdict.into(),
            refused: refused.to_vec(),
            missing: missing.iter().map(|id| Node { id: (*id).to_owned(), ..Node::default() }).collect(),
        });
        assert_eq!(waited.exit, exit);
        assert_eq!(anstream::adapter::strip_str(&waited.text).to_string(), format!("{expected}\n"));
    }

    #[test]
    fn the_end_of_waiting_is_told_in_a_sentence() {
        let four =
            [region("a", 100, 100, 0), region("b", 112, 112, 0), region("c", 100, 100, 0), region("d", 100, 100, 0)];
        let whole = "412 of 412 nodes in 4 regions serve revision 87, 640 ms";
        check(Verdict::Served, &four, &[], &[], Exit::Success, whole);
        let one = [region("", 1, 1, 0)];
        check(Verdict::Served, &one, &[], &[], Exit::Success, "1 of 1 node serve revision 87, 640 ms");
        let nobody = "revision 87 is assigned, and no node is connected to take it";
        check(Verdict::Served, &[], &[], &[], Exit::Late, nobody);
        let some = [region("a", 3, 1, 2)];
        let said = "1 of 3 nodes in 1 region serve revision 87, 640 ms; 2 refused it, because routes.a: no (n1, n2)";
        check(Verdict::Refused, &some, &[refusing("n1", "no"), refusing("n2", "no")], &[], Exit::Refused, said);
        let said = "1 of 3 nodes in 1 region serve revision 87, 640 ms; 2 refused it:\n  routes.a: hm (n2)\n  routes.a: no (n1)";
        check(Verdict::Refused, &some, &[refusing("n1", "no"), refusing("n2", "hm")], &[], Exit::Refused, said);
        let late = [region("a", 3, 1, 0)];
        let said = "1 of 3 nodes in 1 region serve revision 87, 640 ms; 2 have not answered: n1, n2";
        check(Verdict::TimedOut, &late, &[], &["n1", "n2"], Exit::Late, said);
        let said = "1 of 3 nodes in 1 region serve revision 87, 640 ms; a newer assignment has taken its place";
        check(Verdict::Superseded, &late, &[], &[], Exit::Conflict, said);
    }

    #[test]
    fn waiting_has_a_bound() {
        assert_eq!(timeout("1h"), Ok(LONGEST));
        assert_eq!(timeout("61m"), Err("at most 1h".to_owned()));
    }
}
