//! The fleet as it is shown.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use switchtower_proto::control::v1 as control;

use super::{Schema, State};
use crate::fleet::{Which, node::Node};

/// How an assignment reaches the fleet.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Number of the assignment.
    pub assignment: u64,
    /// Number of its revision.
    pub revision: u64,
    /// When it was made.
    pub made_at: SystemTime,
    /// When the last node answered to it. `None`: none did.
    pub answered_at: Option<SystemTime>,
    /// Nodes that have a stream.
    pub connected: u64,
    /// Of these, those that serve it.
    pub serving: u64,
    /// Of these, those that refused it.
    pub refused: u64,
    /// The same by region.
    pub regions: Vec<control::RegionSummary>,
}

impl State {
    pub(in crate::fleet) fn summary(&self, environment: &str) -> control::Summary {
        control::Summary {
            environment: environment.to_owned(),
            assignment: self.desires.assignment,
            revision: self.desires.revision,
            regions: self.tally.regions(),
            revisions: self.tally.revisions(),
        }
    }

    pub(in crate::fleet) fn progress(&self) -> Progress {
        let all = self.tally.all();
        Progress {
            assignment: self.desires.assignment,
            revision: self.desires.revision,
            made_at: self.desires.made_at,
            answered_at: self.answered_at,
            connected: all.connected,
            serving: all.serving,
            refused: all.refused,
            regions: self.tally.regions(),
        }
    }

    pub(in crate::fleet) fn nodes(&self, environment: &str, which: Which<'_>, limit: usize) -> Vec<control::Node> {
        let wanted = |node: &Node| match which {
            Which::Region(region) => region.is_empty() || *node.region == *region,
            Which::Refused => node.is_connected() && node.refuses(&self.desires),
            Which::Missing => node.is_connected() && !node.serves(&self.desires) && !node.refuses(&self.desires),
        };
        let mut nodes: Vec<(&Arc<str>, &Node, bool)> = Vec::new();
        for (id, name) in &self.names {
            let alone = name.nodes.len() == 1;
            nodes.extend(name.nodes.iter().filter(|node| wanted(node)).map(|node| (id, node, alone)));
        }
        nodes.sort_by(|(a, x, _), (b, y, _)| (&x.region, a, x.instance).cmp(&(&y.region, b, y.instance)));
        nodes.truncate(limit);
        nodes.into_iter().map(|(id, node, alone)| node.wire(id, environment, alone, &self.desires)).collect()
    }

    /// The connected nodes by what they understand.
    pub(in crate::fleet) fn schemas(&self) -> Vec<(Arc<Schema>, Vec<Arc<str>>)> {
        let mut schemas: BTreeMap<*const Schema, (Arc<Schema>, Vec<Arc<str>>)> = BTreeMap::new();
        for (id, name) in &self.names {
            for schema in name.nodes.iter().filter(|node| node.is_connected()).filter_map(|node| node.schema.as_ref()) {
                let with = schemas.entry(Arc::as_ptr(schema)).or_insert_with(|| (schema.clone(), Vec::new()));
                with.1.push(id.clone());
            }
        }
        schemas.into_values().collect()
    }
}
