//! The keys of a file, as a table and for programs. A file holds no secret, so a list shows none.

use std::{path::Path, time::SystemTime};

use serde_json::json;
use switchtower_keys::{Record, rfc3339};

use crate::output::{DIM, Failure, GOOD, Output, STRONG};

/// Of this caller, or of all.
pub(super) fn run(path: &Path, caller: Option<&str>, output: Output) -> Result<(), Failure> {
    let mut file = super::keys(path)?.ok_or_else(|| super::no_file(path))?;
    file.records.retain(|record| caller.is_none_or(|caller| record.caller == caller));
    let now = SystemTime::now();
    if output.is_json() {
        let keys = file.records.iter().map(|record| {
            json!({
                "id": record.id,
                "caller": record.caller,
                "state": state(record, now),
                "created": time(record.created),
                "expires": record.expires.map(time),
                "revoked": record.revoked.map(time),
                "pepper": record.pepper,
            })
        });
        return output.json(&keys.collect::<Vec<_>>());
    }
    if file.records.is_empty() {
        output.note("no keys");
        return Ok(());
    }
    output.text(table(&file.records, now))
}

fn table(records: &[Record], now: SystemTime) -> String {
    let width = records.iter().map(|record| record.caller.len()).max().unwrap_or_default().max("CALLER".len());
    let mut text = format!("{STRONG}{:16}  {:width$}  STATE    MADE                  ENDS{STRONG:#}\n", "ID", "CALLER");
    for record in records {
        let state = state(record, now);
        let style = if state == "live" { GOOD } else { DIM };
        let ends = record.revoked.or(record.expires).map_or("never".to_owned(), time);
        let (id, caller, made) = (&record.id, &record.caller, time(record.created));
        text.push_str(&format!("{id}  {caller:width$}  {style}{state:7}{style:#}  {made:20}  {ends}\n"));
    }
    text
}

fn state(record: &Record, now: SystemTime) -> &'static str {
    if record.revoked.is_some() {
        "revoked"
    } else if record.expires.is_some_and(|expires| expires <= now) {
        "expired"
    } else {
        "live"
    }
}

/// Such as `2026-11-22T21:25:42Z`.
pub(super) fn time(at: SystemTime) -> String {
    // Only years past 9999 have no such form, and no file can hold one.
    rfc3339(at).unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_table_tells_which_keys_are_live() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let record = |id: &str, caller: &str, expires: Option<u64>, revoked: Option<u64>| Record {
            id: id.to_owned(),
            hash: [0; 32],
            pepper: "00000000".to_owned(),
            caller: caller.to_owned(),
            created: at(0),
            expires: expires.map(at),
            revoked: revoked.map(at),
        };
        let records = [
            record("AAAAAAAAAAAAAAAA", "web", None, None),
            record("BBBBBBBBBBBBBBBB", "batch-night", Some(200), None),
            record("CCCCCCCCCCCCCCCC", "web", Some(100), None),
            record("DDDDDDDDDDDDDDDD", "web", Some(200), Some(50)),
        ];
        let shown = anstream::adapter::strip_str(&table(&records, at(100))).to_string();
        let expected = "\
ID                CALLER       STATE    MADE                  ENDS
AAAAAAAAAAAAAAAA  web          live     1970-01-01T00:00:00Z  never
BBBBBBBBBBBBBBBB  batch-night  live     1970-01-01T00:00:00Z  1970-01-01T00:03:20Z
CCCCCCCCCCCCCCCC  web          expired  1970-01-01T00:00:00Z  1970-01-01T00:01:40Z
DDDDDDDDDDDDDDDD  web          revoked  1970-01-01T00:00:00Z  1970-01-01T00:00:50Z
";
        assert_eq!(shown, expected);
    }
}
