//! `switchtower get`: a revision, as the YAML that could have been applied.

use serde_json::{Value, json};
use switchtower_client::control::wire::GetRevisionRequest;
use switchtower_proto::policy::v1;

use crate::{
    control::{self, Connection, Environment},
    output::{Exit, Failure, Output, printable},
    revisions, when, yaml,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Number of the revision; without it, the assigned one.
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    number: Option<u64>,
    #[command(flatten)]
    environment: Environment,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: Args, output: Output) -> Result<Exit, Failure> {
    let client = args.connection.client().await?;
    let environment = args.environment.name;
    let answer = async {
        let number = match args.number {
            Some(number) => number,
            None => control::assigned(&client, &environment).await?,
        };
        client.get_revision(GetRevisionRequest { environment, number }).await
    };
    let answer = answer.await.map_err(|error| args.connection.failure(&error))?;
    let revision = answer.revision.unwrap_or_default();
    let (policy, ignored) = revisions::policy(&answer.items)?;
    if output.is_json() {
        output.json(&json!({
            "revision": revisions::document(&revision),
            "policy": Value::Object(yaml::document(&policy)),
            "unknown": ignored,
        }))?;
        return Ok(Exit::Success);
    }
    let text = yaml::text(&policy).map_err(|items| unwritable(&items))?;
    output.text(format!("{}\n{}", comment(&revisions::record(&revision)), printable(&text)))?;
    if !ignored.is_empty() {
        output.note(format!(
            "this program does not know all of it, so this is not all of it: {}; update it before you apply what is \
             shown",
            ignored.join(", ")
        ));
    }
    Ok(Exit::Success)
}

fn comment(record: &v1::RevisionRecord) -> String {
    let why = if record.message.is_empty() { String::new() } else { format!(": {}", record.message) };
    let promoted = match record.promoted_from.as_str() {
        "" => String::new(),
        from => format!(", promoted from {from}"),
    };
    let author = if record.author.is_empty() { "nobody known" } else { &record.author };
    let made = when::shown(record.created_at.as_ref());
    let line = format!("# Revision {} of {}, {made} by {author}{promoted}{why}", record.number, record.environment);
    // What an author wrote must not go on as policy in a next line.
    line.chars().map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c }).collect()
}

/// YAML has no words for these.
pub(crate) fn unwritable(items: &[String]) -> Failure {
    Failure::new(Exit::Data, "this revision says what YAML cannot")
        .details(items.to_vec())
        .next("it was applied by another client than this: `switchtower get --output json` shows what it says")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_author_wrote_stays_in_the_comment() {
        let record = v1::RevisionRecord {
            environment: "prod".to_owned(),
            number: 7,
            author: "ada".to_owned(),
            message: "why\nroutes: {}".to_owned(),
            ..Default::default()
        };
        assert_eq!(comment(&record), "# Revision 7 of prod, - by ada: why routes: {}");
    }
}
