//! `switchtower pull`: what is applied, as files that `apply` takes.
//!
//! Files that say the same already are left alone, comments and all. What somebody has written into files since they were
//! pulled is not overwritten without being told to: the first line of a pulled file names its revision, and a file that
//! is no longer what was written of that revision has been edited.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    path::{Path, PathBuf},
};

use serde_json::json;
use switchtower_client::control::{Client, wire::GetRevisionRequest};
use switchtower_policy::{File, items, read};
use switchtower_proto::policy::v1;

use crate::{
    control::{self, Connection, Environment},
    get,
    output::{Exit, Failure, GOOD, Output},
    revisions,
    violations::counted,
    yaml,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder for the policy's files, or one .yaml file for all of it.
    path: PathBuf,
    /// Number of the revision; without it, the assigned one.
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    number: Option<u64>,
    /// Overwrite what was edited since.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    environment: Environment,
    #[command(flatten)]
    connection: Connection,
}

/// A revision, and what it is called.
struct Pulled {
    environment: String,
    number: u64,
    policy: v1::Policy,
}

pub(crate) async fn run(args: Args, output: Output) -> Result<Exit, Failure> {
    let client = args.connection.client().await?;
    let number = match args.number {
        Some(number) => number,
        None => {
            let assigned = control::assigned(&client, &args.environment.name).await;
            assigned.map_err(|error| args.connection.failure(&error))?
        }
    };
    let pulled = fetch(&client, &args, number).await?;
    let place = Place::of(&args.path);
    let there = place.there()?;
    let wanted = place.written(&pulled)?;
    let unchanged = says_the_same(&there, &pulled.policy);
    if !unchanged {
        let edited = edited(&client, &args, &place, &there, &wanted).await?;
        if !edited.is_empty() && !args.force {
            let files = edited.iter().map(|path| path.display().to_string()).collect();
            return Err(Failure::new(Exit::Conflict, "these files say something else, and were written by people")
                .details(files)
                .next("keep what they say (`switchtower diff` tells), or overwrite it with --force"));
        }
        replace(&there, &wanted)?;
    }
    let (environment, number) = (&pulled.environment, pulled.number);
    let files: Vec<&PathBuf> = if unchanged { there.keys().collect() } else { wanted.keys().collect() };
    match output.is_json() {
        true => output.json(&json!({
            "environment": environment,
            "revision": number,
            "unchanged": unchanged,
            "files": files,
        }))?,
        false if unchanged => {
            output.text(format!("{} says what revision {number} of `{environment}` does\n", args.path.display()))?;
        }
        false => output.text(format!(
            "{GOOD}revision {number}{GOOD:#} of `{environment}` is in {}, in {}\n",
            args.path.display(),
            counted(files.len(), "file")
        ))?,
    }
    Ok(Exit::Success)
}

async fn fetch(client: &Client, args: &Args, number: u64) -> Result<Pulled, Failure> {
    let environment = args.environment.name.clone();
    let request = GetRevisionRequest { environment: environment.clone(), number };
    let answer = client.get_revision(request).await.map_err(|error| args.connection.failure(&error))?;
    let (policy, ignored) = revisions::policy(&answer.items)?;
    // Applying what is left of it would take the rest out of service.
    if !ignored.is_empty() {
        return Err(Failure::new(Exit::Data, "this program does not know all of this revision")
            .details(ignored)
            .next("update this program; nothing was written"));
    }
    let number = answer.revision.as_ref().map_or(number, |revision| revisions::record(revision).number);
    Ok(Pulled { environment, number, policy })
}

/// Where the files are to be.
enum Place {
    File(PathBuf),
    Folder(PathBuf),
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

impl Place {
    fn of(path: &Path) -> Self {
        match is_yaml(path) && !path.is_dir() {
            true => Place::File(path.to_owned()),
            false => Place::Folder(path.to_owned()),
        }
    }

    /// The policy files that are there.
    fn there(&self) -> Result<Files, Failure> {
        let paths = match self {
            Place::File(path) => vec![path.clone()],
            Place::Folder(folder) => yaml_files(folder).map_err(|error| Failure::io(folder.display(), &error))?,
        };
        let mut files = Files::new();
        for path in paths {
            match std::fs::read(&path) {
                Ok(bytes) => drop(files.insert(path, bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Failure::io(path.display(), &error)),
            }
        }
        Ok(files)
    }

    /// What the files are to be.
    fn written(&self, pulled: &Pulled) -> Result<Files, Failure> {
        let comment = comment(&pulled.environment, pulled.number);
        let written = match self {
            Place::File(path) => yaml::text(&pulled.policy)
                .map(|text| Files::from([(path.clone(), format!("{comment}\n{text}").into_bytes())])),
            Place::Folder(folder) => yaml::files(&pulled.policy, &comment)
                .map(|files| files.into_iter().map(|file| (folder.join(file.name), file.bytes)).collect()),
        };
        written.map_err(|items| get::unwritable(&items))
    }

    /// Whether `pull` would ever write this file.
    fn is_ours(&self, path: &Path) -> bool {
        match self {
            Place::File(file) => path == file,
            Place::Folder(folder) => yaml::file_names().any(|name| folder.join(name) == path),
        }
    }
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// The files of a folder that `apply` would read; none of one that is not there.
fn yaml_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if is_yaml(&path) && !hidden && !path.is_dir() {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// Whether these files are the same policy, whatever they look like.
fn says_the_same(there: &Files, policy: &v1::Policy) -> bool {
    let files: Vec<File> =
        there.iter().map(|(path, bytes)| File { name: path.display().to_string(), bytes: bytes.clone() }).collect();
    let reading = read(&files);
    !files.is_empty() && reading.violations.is_empty() && items::items(&reading.policy) == items::items(policy)
}

/// The files that are there, would be overwritten or removed, and are not as they were pulled.
async fn edited(
    client: &Client,
    args: &Args,
    place: &Place,
    there: &Files,
    wanted: &Files,
) -> Result<Vec<PathBuf>, Failure> {
    let foreign: Vec<String> =
        there.keys().filter(|path| !place.is_ours(path)).map(|path| path.display().to_string()).collect();
    if !foreign.is_empty() {
        // Beside what is written, they would be a part of the policy.
        return Err(Failure::new(Exit::Conflict, "there are other policy files in this folder")
            .details(foreign)
            .next("pull into an empty folder, or into one .yaml file, and merge by hand"));
    }
    let mut before: BTreeMap<u64, Files> = BTreeMap::new();
    let mut edited = Vec::new();
    for (path, bytes) in there {
        if wanted.get(path) == Some(bytes) {
            continue;
        }
        let Some(number) = pulled_from(bytes, &args.environment.name) else {
            edited.push(path.clone());
            continue;
        };
        let files = match before.entry(number) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                // A revision that is not there, or not to be written, cannot have been pulled.
                let files = fetch(client, args, number).await.and_then(|pulled| place.written(&pulled));
                new.insert(files.unwrap_or_default())
            }
        };
        if files.get(path) != Some(bytes) {
            edited.push(path.clone());
        }
    }
    Ok(edited)
}

fn comment(environment: &str, number: u64) -> String {
    format!("# Revision {number} of {environment}, written by `switchtower pull`.")
}

/// The revision that a file says it was pulled from.
fn pulled_from(bytes: &[u8], environment: &str) -> Option<u64> {
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    let number = std::str::from_utf8(line).ok()?.strip_prefix("# Revision ")?.split(' ').next()?.parse().ok()?;
    (line == comment(environment, number).as_bytes()).then_some(number)
}

/// Each file is there whole or not at all, whatever happens.
fn replace(there: &Files, wanted: &Files) -> Result<(), Failure> {
    for (path, bytes) in wanted {
        write(path, bytes).map_err(|error| Failure::io(path.display(), &error))?;
    }
    for path in there.keys().filter(|path| !wanted.contains_key(*path)) {
        std::fs::remove_file(path).map_err(|error| Failure::io(path.display(), &error))?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let name = path.file_name().ok_or_else(|| io::Error::other("this is no file's name"))?;
    // Readers pass over files whose names begin with a dot.
    let unfinished = folder.join(format!(".{}.unfinished", name.to_string_lossy()));
    std::fs::write(&unfinished, bytes)?;
    std::fs::rename(&unfinished, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulled_file_names_its_revision_and_no_other_does() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(pulled_from(text.as_bytes(), "prod"), expected, "{text}");
        };
        check(&format!("{}\nenvironment: prod\n", comment("prod", 12)), Some(12));
        check(&comment("dev", 12), None);
        check("# Revision 12 of prod, mine", None);
        check("# Revision x", None);
        check("", None);
    }
}
