//! `switchtower key`: the keys that callers show to nodes. With `--file`, those of a node without a control plane, in
//! the files that it reads; else those of the control plane.
//!
//! A key is shown once, when it is made. The files hold what is left of it, and only their owner can read them; a node
//! that runs reads both again within two seconds.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use clap::Subcommand;
use serde_json::json;
use switchtower_data_plane::auth::Keyring;
use switchtower_keys::{File, Invalid, IssuedKey, Pepper, Peppers, Record, new_key, random};

use self::{lock::Lock, remote::Remote};
use crate::{
    duration,
    output::{Exit, Failure, Output, STRONG},
};

mod list;
mod lock;
mod remote;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key, and show its secrets this once.
    New {
        #[command(flatten)]
        files: Files,
        /// Pepper file; without it, pepper.yaml beside the keys file.
        #[arg(long, env = "SWITCHTOWER_PEPPER", value_name = "FILE")]
        pepper: Option<PathBuf>,
        /// Caller that the key speaks for, by its name in the policy.
        #[arg(long, value_name = "NAME")]
        caller: String,
        /// How long it holds, such as 30d; without it, until it is revoked.
        #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
        expires: Option<Duration>,
        #[command(flatten)]
        remote: Remote,
    },
    /// List the keys.
    List {
        #[command(flatten)]
        files: Files,
        /// Only those of this caller.
        #[arg(long, value_name = "NAME")]
        caller: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Make a key for the same caller, and end the old one after an overlap in which both hold.
    Rotate {
        /// Id of the old key, as `switchtower key list` shows it.
        id: String,
        /// How long both hold, up to 90d; 0s ends the old one at once.
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration::parse_or_none)]
        overlap: Duration,
        /// How long the new one holds; without it, until it is revoked.
        #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
        expires: Option<Duration>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Revoke a key: nodes refuse it within two seconds.
    Revoke {
        #[command(flatten)]
        files: Files,
        /// Id of the key, as `switchtower key list` shows it.
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Make a new pepper for new keys of a keys file; keys under the present one still hold, older ones end.
    RotatePepper {
        #[command(flatten)]
        files: Paths,
    },
}

#[derive(Debug, clap::Args)]
struct Files {
    /// Keys file of a node without a control plane; with it the control plane is not asked.
    #[arg(long, env = "SWITCHTOWER_KEYS", value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Paths {
    /// Keys file.
    #[arg(long, env = "SWITCHTOWER_KEYS", value_name = "FILE")]
    file: PathBuf,
    /// Pepper file; without it, pepper.yaml beside the keys file.
    #[arg(long, env = "SWITCHTOWER_PEPPER", value_name = "FILE")]
    pepper: Option<PathBuf>,
}

impl Paths {
    fn pepper(&self) -> PathBuf {
        self.pepper.clone().unwrap_or_else(|| self.file.with_file_name("pepper.yaml"))
    }
}

pub(crate) async fn run(args: Args, output: Output) -> Result<Exit, Failure> {
    match args.command {
        Command::New { files: Files { file: Some(file) }, pepper, caller, expires, .. } => {
            new(&Paths { file, pepper }, &caller, expires, output)
        }
        Command::New { remote, caller, expires, .. } => remote.new_key(&caller, expires, output).await,
        Command::List { files: Files { file: Some(file) }, caller, .. } => list::run(&file, caller.as_deref(), output),
        Command::List { remote, caller, .. } => remote.list(caller.as_deref(), output).await,
        Command::Rotate { id, overlap, expires, remote } => remote.rotate(&id, overlap, expires, output).await,
        Command::Revoke { files: Files { file: Some(file) }, id, .. } => revoke(&file, &id, output),
        Command::Revoke { remote, id, .. } => remote.revoke(&id, output).await,
        Command::RotatePepper { files } => rotate(&files, output),
    }
    .map(|()| Exit::Success)
}

fn new(paths: &Paths, caller: &str, expires: Option<Duration>, output: Output) -> Result<(), Failure> {
    let _lock = Lock::of(&paths.file)?;
    let mut file = keys(&paths.file)?.unwrap_or_default();
    let (peppers, is_first) = match peppers(&paths.pepper())? {
        Some(peppers) => (peppers, false),
        None if file.records.is_empty() => (Peppers::first(Pepper::new(randomness()?)), true),
        None => return Err(no_pepper(paths)),
    };
    let now = SystemTime::now();
    let expires = match expires {
        Some(length) => Some(now.checked_add(length).ok_or_else(|| Failure::usage("--expires is too long"))?),
        None => None,
    };
    let (record, issued) = new_key(caller, &peppers.current, now, expires, &randomness()?).map_err(|invalid| {
        let flag = match invalid {
            Invalid::Expired | Invalid::TooLate => "--expires",
            Invalid::Caller | Invalid::Bearer => "--caller",
        };
        Failure::usage(format!("{flag}: {invalid}"))
    })?;
    file.records.push(record.clone());
    // What no node would read is not written.
    Keyring::new(&file.records, &peppers).map_err(|problems| unusable(&paths.file, problems))?;
    if is_first {
        let pepper = paths.pepper();
        peppers.write(&pepper).map_err(|error| Failure::io(pepper.display(), &error))?;
    }
    write(&file, &paths.file)?;
    show(&record, &issued, paths, output)
}

fn show(record: &Record, issued: &IssuedKey, paths: &Paths, output: Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&json!({
            "id": record.id,
            "caller": record.caller,
            "expires": record.expires.map(list::time),
            "api_key": issued.bearer,
            "aws_access_key_id": issued.access_key_id,
            "aws_secret_access_key": issued.secret_access_key,
            "file": paths.file,
            "pepper": paths.pepper(),
        }));
    }
    output.text(format!(
        "{STRONG}key {}{STRONG:#} for caller `{}`, in {}\n\
         \n\
         bearer key             {}\n\
         AWS access key id      {}\n\
         AWS secret access key  {}\n",
        record.id,
        record.caller,
        paths.file.display(),
        issued.bearer,
        issued.access_key_id,
        issued.secret_access_key,
    ))?;
    output.note(
        "\nKeep them now: they are shown this once, and stored nowhere. A node that runs with these files takes the \
         key within two seconds.",
    );
    Ok(())
}

fn revoke(path: &Path, id: &str, output: Output) -> Result<(), Failure> {
    // Where there is nothing to change, no lock is left behind.
    keys(path)?.ok_or_else(|| no_file(path))?;
    let _lock = Lock::of(path)?;
    let mut file = keys(path)?.ok_or_else(|| no_file(path))?;
    if !file.revoke(id, SystemTime::now()) {
        return Err(Failure::new(Exit::Data, format!("{} holds no key of this id", path.display()))
            .next("`switchtower key list` shows the ids; an id is the middle of a bearer key: swt_ID_..."));
    }
    write(&file, path)?;
    match output.is_json() {
        true => output.json(&json!({ "revoked": id })),
        false => output.text(format!("key {id} is revoked; nodes that run refuse it within two seconds\n")),
    }
}

fn rotate(paths: &Paths, output: Output) -> Result<(), Failure> {
    keys(&paths.file)?.ok_or_else(|| no_file(&paths.file))?;
    let _lock = Lock::of(&paths.file)?;
    let file = keys(&paths.file)?.ok_or_else(|| no_file(&paths.file))?;
    let peppers = peppers(&paths.pepper())?.ok_or_else(|| no_pepper(paths))?;
    let next = peppers.rotated(Pepper::new(randomness()?));
    // A key whose pepper is gone lets nobody in, so such keys have to be revoked first.
    Keyring::new(&file.records, &next).map_err(|problems| {
        Failure::new(Exit::Data, "keys would be left under a pepper that is no longer live")
            .details(problems)
            .next("revoke these keys (`switchtower key revoke`), or make them anew, and rotate then")
    })?;
    let pepper = paths.pepper();
    next.write(&pepper).map_err(|error| Failure::io(pepper.display(), &error))?;
    match output.is_json() {
        true => output.json(&json!({ "pepper": next.current.id() })),
        false => output.text(format!(
            "new keys are made under pepper {}; nodes that run take it within two seconds, as they do new keys\n",
            next.current.id()
        )),
    }
}

/// The keys file; `None` where there is none.
fn keys(path: &Path) -> Result<Option<File>, Failure> {
    match std::fs::read(path) {
        Ok(bytes) => File::read(&bytes).map(Some).map_err(|problems| unusable(path, problems)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::io(path.display(), &error)),
    }
}

/// The pepper file; `None` where there is none.
fn peppers(path: &Path) -> Result<Option<Peppers>, Failure> {
    match std::fs::read(path) {
        Ok(bytes) => Peppers::read(&bytes).map(Some).map_err(|problems| unusable(path, problems)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::io(path.display(), &error)),
    }
}

fn write(file: &File, path: &Path) -> Result<(), Failure> {
    file.write(path).map_err(|error| Failure::io(path.display(), &error))
}

fn unusable(path: &Path, problems: Vec<String>) -> Failure {
    Failure::new(Exit::Data, format!("{} cannot be used", path.display())).details(problems)
}

fn no_file(path: &Path) -> Failure {
    let message = format!("there is no file {}", path.display());
    Failure::new(Exit::Io, message).next("check --file; `switchtower key new` makes one")
}

fn no_pepper(paths: &Paths) -> Failure {
    let (keys, pepper) = (paths.file.display(), paths.pepper());
    Failure::new(Exit::Io, format!("{keys} holds keys, but there is no pepper file {}", pepper.display()))
        .next("give the pepper that they were made under: --pepper FILE")
}

fn randomness<const N: usize>() -> Result<[u8; N], Failure> {
    random().map_err(|error| Failure::new(Exit::Failed, format!("the system has no randomness: {error}")))
}
