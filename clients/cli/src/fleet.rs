//! The fleet as it is shown: its summary, its nodes, and what is wrong with them.

use std::time::SystemTime;

use serde_json::{Value, json};
use switchtower_client::control::wire::{Connection, Node, RegionSummary, Summary};

use crate::{
    duration,
    output::{DIM, ERROR, Exit, GOOD, STRONG, WARNING, printable},
    when,
};

/// What the whole fleet does.
pub(crate) struct Sums {
    pub(crate) connected: u64,
    pub(crate) serving: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
}

impl Sums {
    pub(crate) fn of(summary: &Summary) -> Self {
        let sum = |of: fn(&RegionSummary) -> u64| summary.regions.iter().map(of).sum();
        Sums {
            connected: sum(|region| region.connected),
            serving: sum(|region| region.serving),
            refused: sum(|region| region.refused),
            unknown: sum(|region| region.unknown),
        }
    }

    /// How `status --exit-code` ends.
    pub(crate) fn exit(&self) -> Exit {
        if self.refused > 0 {
            Exit::Refused
        } else if self.serving < self.connected {
            Exit::Late
        } else {
            Exit::Success
        }
    }
}

/// The summary on one line: `prod: 410 of 412 connected nodes serve revision 87, 2 refused it; 1 not connected`.
pub(crate) fn line(summary: &Summary) -> String {
    let sums = Sums::of(summary);
    let environment = &summary.environment;
    if summary.revision == 0 {
        return format!("{environment}: no revision is assigned, {} nodes are connected", sums.connected);
    }
    let style = match sums.exit() {
        Exit::Success => GOOD,
        Exit::Refused => ERROR,
        _ => WARNING,
    };
    let mut text = format!(
        "{STRONG}{environment}{STRONG:#}: {style}{} of {} connected nodes serve revision {}{style:#}",
        sums.serving, sums.connected, summary.revision
    );
    if sums.refused > 0 {
        text.push_str(&format!(", {} refused it", sums.refused));
    }
    if sums.unknown > 0 {
        text.push_str(&format!("; {} not connected", sums.unknown));
    }
    text
}

/// The summary with a line for each region, and what is served where not all serve the same.
pub(crate) fn table(summary: &Summary) -> String {
    let mut text = format!("{}\n", line(summary));
    if !summary.regions.is_empty() {
        let width =
            summary.regions.iter().map(|region| name(region).len()).max().unwrap_or_default().max("REGION".len());
        text.push_str(&format!(
            "\n{STRONG}{:width$}  CONNECTED  SERVING  REFUSED  WAITING  NOT CONNECTED{STRONG:#}\n",
            "REGION"
        ));
        for region in &summary.regions {
            let waiting = region.connected.saturating_sub(region.serving + region.refused);
            text.push_str(&format!(
                "{:width$}  {:>9}  {:>7}  {:>7}  {waiting:>7}  {:>13}\n",
                name(region),
                region.connected,
                region.serving,
                region.refused,
                region.unknown
            ));
        }
    }
    let others = summary.revisions.iter().any(|count| count.revision != summary.revision);
    if others {
        let counts = summary.revisions.iter().map(|count| match count.revision {
            0 => format!("none on {}", count.nodes),
            revision => format!("{revision} on {}", count.nodes),
        });
        text.push_str(&format!("\nserved: revision {}\n", counts.collect::<Vec<_>>().join(", ")));
    }
    text
}

fn name(region: &RegionSummary) -> &str {
    if region.region.is_empty() { "(none)" } else { &region.region }
}

/// What is wrong with nodes, a line for each thing; nothing where nothing is.
pub(crate) fn problems(nodes: &[Node], now: SystemTime) -> String {
    let mut text = String::new();
    for node in nodes {
        if let Some(refused) = &node.refused {
            let since = when::shown(refused.at.as_ref());
            let reason = reason(node);
            text.push_str(&format!(
                "{ERROR}refused{ERROR:#}  {}: revision {} since {since}: {}\n",
                printable(&node.id),
                refused.revision,
                printable(&reason)
            ));
        } else if let Some(lag) = when::ago(node.lagging_since.as_ref(), now) {
            let lag = duration::words(lag);
            let id = printable(&node.id);
            text.push_str(&format!("{WARNING}lags{WARNING:#}     {id}: for {lag}, serves {}\n", serves(node)));
        }
        for problem in &node.problems {
            let (id, problem) = (printable(&node.id), printable(problem));
            text.push_str(&format!("{WARNING}problem{WARNING:#}  {id}: {problem}\n"));
        }
    }
    text
}

fn serves(node: &Node) -> String {
    node.serving.as_ref().map_or("nothing".to_owned(), |serving| format!("revision {}", serving.revision))
}

/// A line for each node.
pub(crate) fn nodes(nodes: &[Node], now: SystemTime) -> String {
    let width =
        |heading: &str, of: fn(&Node) -> usize| nodes.iter().map(of).max().unwrap_or_default().max(heading.len());
    let (id, region) = (width("NODE", |node| node.id.len()), width("REGION", |node| node.region.len()));
    let build = width("BUILD", |node| node.build.len());
    let mut text = format!(
        "{STRONG}{:id$}  {:region$}  {:build$}  STATE          SERVES  HEARD{STRONG:#}\n",
        "NODE", "REGION", "BUILD"
    );
    for node in nodes {
        let (state, style) = state(node);
        let serves = node.serving.as_ref().map_or("-".to_owned(), |serving| serving.revision.to_string());
        let heard = when::ago(node.last_heard_at.as_ref(), now);
        let heard = heard.map_or("-".to_owned(), |ago| format!("{} ago", duration::words(ago)));
        text.push_str(&format!(
            "{:id$}  {:region$}  {:build$}  {style}{state:13}{style:#}  {serves:>6}  {heard}\n",
            printable(&node.id),
            printable(&node.region),
            printable(&node.build)
        ));
    }
    text
}

fn state(node: &Node) -> (&'static str, anstyle::Style) {
    if node.connection() != Connection::Connected {
        ("not connected", DIM)
    } else if node.refused.is_some() {
        ("refused", ERROR)
    } else if node.lagging_since.is_some() {
        ("lags", WARNING)
    } else {
        ("serves", GOOD)
    }
}

/// Why a node refused: its first reason, and how many more it has.
pub(crate) fn reason(node: &Node) -> String {
    let violations = node.refused.as_ref().map(|refused| refused.violations.as_slice()).unwrap_or_default();
    let Some(first) = violations.first() else { return "it did not say why".to_owned() };
    let mut text = match first.path.as_str() {
        "" => first.message.clone(),
        path => format!("{path}: {}", first.message),
    };
    if violations.len() > 1 {
        text.push_str(&format!(" (and {} more)", violations.len() - 1));
    }
    text
}

/// The summary for programs.
pub(crate) fn document(summary: &Summary) -> Value {
    let sums = Sums::of(summary);
    json!({
        "environment": summary.environment,
        "assignment": summary.assignment,
        "revision": summary.revision,
        "converged": sums.exit() == Exit::Success,
        "connected": sums.connected,
        "serving": sums.serving,
        "refused": sums.refused,
        "unknown": sums.unknown,
        "regions": regions(&summary.regions),
        "revisions": summary
            .revisions
            .iter()
            .map(|count| json!({ "revision": count.revision, "nodes": count.nodes }))
            .collect::<Vec<_>>(),
    })
}

/// Regions for programs.
pub(crate) fn regions(regions: &[RegionSummary]) -> Vec<Value> {
    let region = |region: &RegionSummary| {
        json!({
            "region": region.region,
            "connected": region.connected,
            "serving": region.serving,
            "refused": region.refused,
            "unknown": region.unknown,
        })
    };
    regions.iter().map(region).collect()
}

/// A node for programs.
pub(crate) fn node(node: &Node) -> Value {
    json!({
        "id": node.id,
        "instance": node.instance,
        "environment": node.environment,
        "region": node.region,
        "build": node.build,
        "connected": node.connection() == Connection::Connected,
        "since": when::document(node.since.as_ref()),
        "last_heard_at": when::document(node.last_heard_at.as_ref()),
        "offered": node.offered.as_ref().map(|offered| json!({
            "assignment": offered.assignment,
            "revision": offered.revision,
            "at": when::document(offered.at.as_ref()),
        })),
        "serving": node.serving.as_ref().map(|serving| json!({
            "assignment": serving.assignment,
            "revision": serving.revision,
            "keys_version": serving.keys_version,
            "since": when::document(serving.since.as_ref()),
        })),
        "refused": node.refused.as_ref().map(|refused| json!({
            "revision": refused.revision,
            "at": when::document(refused.at.as_ref()),
            "violations": refused.violations.iter().map(|violation| json!({
                "code": violation.code,
                "path": violation.path,
                "message": violation.message,
            })).collect::<Vec<_>>(),
        })),
        "clock_ahead_ms": node.clock_ahead.as_ref().map(|ahead| ahead
            .seconds
            .saturating_mul(1000)
            .saturating_add(i64::from(ahead.nanos) / 1_000_000)),
        "problems": node.problems,
        "lagging_since": when::document(node.lagging_since.as_ref()),
    })
}
