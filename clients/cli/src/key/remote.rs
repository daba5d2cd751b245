//! Keys of the control plane: made, listed, rotated and revoked there, so that every node has them at once.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use switchtower_client::control::wire::{
    IssueKeyRequest, Key, KeySecrets, ListKeysRequest, RevokeKeyRequest, RotateKeyRequest,
};

use crate::{
    control::Connection,
    output::{DIM, Failure, GOOD, Output, STRONG, WARNING, printable},
    when,
};

/// Where keys are that stand in no file.
#[derive(Debug, clap::Args)]
pub(super) struct Remote {
    /// Environment that the key is for.
    #[arg(long, short = 'e', env = "SWITCHTOWER_ENVIRONMENT", value_name = "NAME")]
    environment: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

impl Remote {
    fn environment(&self) -> Result<String, Failure> {
        self.environment.clone().ok_or_else(|| {
            Failure::usage("it is not said where the key is to be").next(
                "give --environment NAME for a key of the control plane, or --file FILE for a keys file of a node \
                 without one",
            )
        })
    }

    pub(super) async fn new_key(&self, caller: &str, expires: Option<Duration>, output: Output) -> Result<(), Failure> {
        let request = IssueKeyRequest {
            environment: self.environment()?,
            caller: caller.to_owned(),
            expires_after: expires.map(|expires| span(expires, "--expires")).transpose()?,
        };
        let client = self.connection.client().await?;
        let made = client.issue_key(request).await.map_err(|error| self.connection.failure_of_change(&error))?;
        let (key, secrets) = (made.key.unwrap_or_default(), made.secrets.unwrap_or_default());
        if output.is_json() {
            return output.json(&secret_document(&key, &secrets));
        }
        show(&key, &secrets, output)?;
        output.note(USE);
        Ok(())
    }

    pub(super) async fn list(&self, caller: Option<&str>, output: Output) -> Result<(), Failure> {
        let environment = self.environment()?;
        let client = self.connection.client().await?;
        let mut request = ListKeysRequest {
            environment: environment.clone(),
            caller: caller.unwrap_or_default().to_owned(),
            ..ListKeysRequest::default()
        };
        let mut keys: Vec<Key> = Vec::new();
        loop {
            let page = client.list_keys(request.clone()).await.map_err(|error| self.connection.failure(&error))?;
            keys.extend(page.keys);
            match keys.last().filter(|_| page.more) {
                Some(last) => request.after.clone_from(&last.id),
                None => break,
            }
        }
        let now = SystemTime::now();
        if output.is_json() {
            return output.json(&keys.iter().map(|key| document(key, now)).collect::<Value>());
        }
        if keys.is_empty() {
            output.note(format!("no keys for `{environment}`: `switchtower key new` makes one"));
            return Ok(());
        }
        output.text(table(&keys, now))
    }

    pub(super) async fn rotate(
        &self,
        id: &str,
        overlap: Duration,
        expires: Option<Duration>,
        output: Output,
    ) -> Result<(), Failure> {
        let request = RotateKeyRequest {
            environment: self.environment()?,
            id: id.to_owned(),
            overlap: Some(span(overlap, "--overlap")?),
            expires_after: expires.map(|expires| span(expires, "--expires")).transpose()?,
        };
        let client = self.connection.client().await?;
        let made = client.rotate_key(request).await.map_err(|error| self.connection.failure_of_change(&error))?;
        let (key, secrets) = (made.key.unwrap_or_default(), made.secrets.unwrap_or_default());
        let replaced = made.replaced.unwrap_or_default();
        if output.is_json() {
            let mut shown = secret_document(&key, &secrets);
            if let Value::Object(members) = &mut shown {
                members.insert("replaced".to_owned(), document(&replaced, SystemTime::now()));
            }
            return output.json(&shown);
        }
        show(&key, &secrets, output)?;
        let ends = when::shown(replaced.revoked_at.as_ref().or(replaced.expires_at.as_ref()));
        output.note(format!("{USE}\nThe old key {} lets callers in until {ends}: change it before then.", replaced.id));
        Ok(())
    }

    pub(super) async fn revoke(&self, id: &str, output: Output) -> Result<(), Failure> {
        let request = RevokeKeyRequest { environment: self.environment()?, id: id.to_owned() };
        let client = self.connection.client().await?;
        let revoked = client.revoke_key(request).await.map_err(|error| self.connection.failure_of_change(&error))?;
        let key = revoked.key.unwrap_or_default();
        match output.is_json() {
            true => output.json(&document(&key, SystemTime::now())),
            false => output.text(format!(
                "revoked {} of caller `{}`; connected nodes refuse it within two seconds\n",
                key.id, key.caller
            )),
        }
    }
}

const USE: &str = "\nKeep them now: they are shown this once, and stored nowhere. Connected nodes take the key at once. It \
                   is what `authorization: Bearer` carries and SWITCHTOWER_API_KEY holds; for AWS SDKs the pair goes into \
                   AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.";

fn span(length: Duration, flag: &str) -> Result<prost_types::Duration, Failure> {
    prost_types::Duration::try_from(length).map_err(|_| Failure::usage(format!("{flag} is too long")))
}

fn show(key: &Key, secrets: &KeySecrets, output: Output) -> Result<(), Failure> {
    output.text(format!(
        "{STRONG}key {}{STRONG:#} for caller `{}` in `{}`\n\
         \n\
         bearer key             {}\n\
         AWS access key id      {}\n\
         AWS secret access key  {}\n",
        key.id, key.caller, key.environment, secrets.bearer, secrets.access_key_id, secrets.secret_access_key,
    ))
}

fn secret_document(key: &Key, secrets: &KeySecrets) -> Value {
    json!({
        "id": key.id,
        "environment": key.environment,
        "caller": key.caller,
        "expires": when::document(key.expires_at.as_ref()),
        "api_key": secrets.bearer,
        "aws_access_key_id": secrets.access_key_id,
        "aws_secret_access_key": secrets.secret_access_key,
    })
}

fn document(key: &Key, now: SystemTime) -> Value {
    let id = |id: &str| (!id.is_empty()).then(|| id.to_owned());
    json!({
        "id": key.id,
        "environment": key.environment,
        "caller": key.caller,
        "state": state(key, now),
        "created": when::document(key.created_at.as_ref()),
        "expires": when::document(key.expires_at.as_ref()),
        "revoked": when::document(key.revoked_at.as_ref()),
        "pepper": key.pepper,
        "replaces": id(&key.replaces),
        "replaced_by": id(&key.replaced_by),
    })
}

fn state(key: &Key, now: SystemTime) -> &'static str {
    if key.revoked_at.is_some() {
        "revoked"
    } else if when::time(key.expires_at.as_ref()).is_some_and(|expires| expires <= now) {
        "expired"
    } else if !key.replaced_by.is_empty() {
        "ending"
    } else {
        "live"
    }
}

fn table(keys: &[Key], now: SystemTime) -> String {
    let width = keys.iter().map(|key| key.caller.len()).max().unwrap_or_default().max("CALLER".len());
    let mut text = format!("{STRONG}{:16}  {:width$}  STATE    MADE                  ENDS{STRONG:#}\n", "ID", "CALLER");
    for key in keys {
        let state = state(key, now);
        let style = match state {
            "live" => GOOD,
            "ending" => WARNING,
            _ => DIM,
        };
        let ends = key.revoked_at.as_ref().or(key.expires_at.as_ref());
        let ends = if ends.is_none() { "never".to_owned() } else { when::shown(ends) };
        let by = if key.replaced_by.is_empty() { String::new() } else { format!("  now {}", key.replaced_by) };
        let (id, caller, made) = (printable(&key.id), printable(&key.caller), when::shown(key.created_at.as_ref()));
        text.push_str(&format!("{id:16}  {caller:width$}  {style}{state:7}{style:#}  {made:20}  {ends}{by}\n"));
    }
    text
}
