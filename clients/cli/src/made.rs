//! How commands that change what nodes serve end: what was made, what became of it in the fleet, and one document of it
//! all for programs.

use serde_json::{Map, Value, json};
use switchtower_client::control::{
    Client,
    wire::{Diff, Revision},
};

use crate::{
    changes,
    control::Connection,
    output::{Exit, Failure, Output},
    revisions, wait,
};

/// What was made, or would be.
pub(crate) struct Made<'a> {
    pub(crate) environment: &'a str,
    /// The revision that nodes should serve with it.
    pub(crate) revision: &'a Revision,
    /// The assignment; 0: none was made, and the present one holds.
    pub(crate) assignment: u64,
    pub(crate) diff: &'a Diff,
    /// What a command adds to the document.
    pub(crate) more: Map<String, Value>,
}

impl Made<'_> {
    /// Tells it, and waits if that was asked for.
    pub(crate) async fn end(
        self,
        words: &str,
        wait: Option<&wait::Wait>,
        client: &Client,
        connection: &Connection,
        output: Output,
    ) -> Result<Exit, Failure> {
        if !output.is_json() {
            output.text(words)?;
        }
        let mut waited = None;
        if let Some(args) = wait.filter(|args| args.wait) {
            waited = Some(wait::wait(args, client, connection, self.environment, self.assignment, output).await?);
        }
        let exit = waited.as_ref().map_or(Exit::Success, |waited| waited.exit);
        match output.is_json() {
            true => output.json(&self.document(waited.map(|waited| waited.document)))?,
            false => {
                if let Some(waited) = waited {
                    output.text(waited.text)?;
                }
            }
        }
        Ok(exit)
    }

    fn document(self, waited: Option<Value>) -> Value {
        let mut document = json!({
            "environment": self.environment,
            "revision": revisions::document(self.revision),
            "assignment": (self.assignment > 0).then_some(self.assignment),
            "changes": changes::document(self.diff),
        });
        if let Value::Object(members) = &mut document {
            members.extend(self.more);
            members.insert("waited".to_owned(), waited.unwrap_or_default());
        }
        document
    }
}

/// Nobody said yes.
pub(crate) fn declined(output: Output) -> Exit {
    output.note("nothing was changed");
    Exit::Failed
}
