//! Policy -> snapshot: everything that can be wrong with a policy is found here, all of it at once.
//!
//! *Valid means "compiles"*: both planes and the CLI call [`compile`], and past it nothing is checked again. With
//! [`crate::document`] the only module that sees protobuf. Every section is compiled even where an earlier one is wrong;
//! a name whose entry is wrong is still a name, so that one mistake is one violation.
//!
//! Models, flags and routes get their indices in the order of their names, and the revision comes from the digest of
//! the policy's items, which are sorted: the same policy gives the same snapshot, whatever files it came from.

mod caller;
mod flag;
mod geography;
mod guardrail;
mod limits;
mod model;
mod names;
mod requirements;
mod rollout;
mod route;
mod tier;

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hashbrown::HashMap;
use switchtower_proto::policy::v1;

use crate::{
    Snapshot,
    answer::Answers,
    condition::{self, Condition, FlagLookup, Scope},
    document::{File, read},
    flag::Type,
    items,
    snapshot::{FlagIndex, Guardrail, Model, ModelIndex, RouteIndex, Target},
    violation::{Severity, Violation, Violations, nearest},
};

/// What compiling gave.
#[derive(Debug)]
pub struct Compiled {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// What an operator should know.
    pub warnings: Vec<Violation>,
}

/// Compiles a policy.
///
/// # Errors
/// All violations, warnings among them, in the order of the sections; at least one is an error.
pub fn compile(policy: &v1::Policy) -> Result<Compiled, Vec<Violation>> {
    let (snapshot, violations) = build(policy);
    finished(snapshot, violations)
}

/// Reads the files of one policy and compiles it.
///
/// # Errors
/// All violations of reading and of compiling, warnings among them, with their places, in the order of their places; at
/// least one is an error. What compiling finds only because reading refused a part is left out.
pub fn load(files: &[File]) -> Result<Compiled, Vec<Violation>> {
    let reading = read(files);
    let (snapshot, compiled) = build(&reading.policy);
    let refused_something = !reading.violations.is_empty();
    let mut violations = reading.violations;
    for mut violation in compiled {
        if refused_something && follows_from(&violation, &reading.refused) {
            continue;
        }
        // A section that is missing stands nowhere; the first file is where an operator would begin to look.
        let missing = || if violation.path.is_empty() { None } else { reading.places.first() };
        violation.place = violation.place.or_else(|| reading.places.of(&violation.path)).or_else(missing);
        violations.push(violation);
    }
    let file_order: HashMap<&str, usize> =
        files.iter().enumerate().rev().map(|(index, file)| (file.name.as_str(), index)).collect();
    violations.sort_by_cached_key(|violation| {
        let place = violation.place.as_ref();
        let place = place.map(|place| (file_order.get(&*place.file).copied(), place.line, place.column));
        // The last word, on what is not shown, stays last.
        (violation.code == "too_many_violations", place)
    });
    finished(snapshot, violations)
}

/// Whether compiling found this only because reading refused something.
fn follows_from(violation: &Violation, refused: &crate::document::Refused) -> bool {
    let section = match violation.code {
        "unknown_model" => "models",
        "unknown_guardrail" => "guardrails",
        // The region may be among those that were refused.
        "guardrail_region" if refused.has_within("guardrails") => return true,
        "guardrail_region" => "guardrails",
        "unknown_flag" => "flags",
        "unknown_route" => "routes",
        "unused_route" | "no_callers" if refused.has_within("callers") => return true,
        "unused_route" | "no_callers" => "callers",
        // What is missing, or not enough, may be what was refused.
        "required" | "zero_weights" if refused.has_within(&violation.path) => return true,
        // Sections and the environment's name may stand in the file that could not be read.
        "required" if refused.file && !violation.path.contains(['.', '[']) => return true,
        _ => return refused.covers(&violation.path),
    };
    refused.hides_names_of(section) || refused.covers(&violation.path)
}

fn finished(snapshot: Option<Snapshot>, violations: Vec<Violation>) -> Result<Compiled, Vec<Violation>> {
    let refused = violations.iter().any(|violation| violation.severity == Severity::Error);
    match snapshot {
        Some(snapshot) if !refused => Ok(Compiled { snapshot, warnings: violations }),
        _ => Err(violations),
    }
}

/// The snapshot, unless something is wrong, and all that was found.
fn build(policy: &v1::Policy) -> (Option<Snapshot>, Vec<Violation>) {
    let mut compiler = Compiler::new(policy);
    if !compiler.sizes() {
        return (None, compiler.violations.into_vec());
    }
    compiler.environment();
    compiler.catalogue();
    compiler.models();
    compiler.guardrails();
    let flags = compiler.flags();
    let (routes, route_names) = compiler.routes();
    let callers = compiler.callers(&route_names);
    compiler.rollout();
    let (Some(flags), Some(routes)) = (flags, routes) else {
        return (None, compiler.violations.into_vec());
    };
    if compiler.violations.errors() > 0 {
        return (None, compiler.violations.into_vec());
    }
    let snapshot = Snapshot {
        revision: revision(policy).into(),
        environment: policy.environment.as_str().into(),
        routes,
        route_names,
        models: compiler.models,
        targets: compiler.targets,
        flags,
        flag_names: compiler.flag_kinds.iter().map(|(name, (index, _))| ((*name).into(), *index)).collect(),
        callers,
        answers: compiler.answers,
    };
    (Some(snapshot), compiler.violations.into_vec())
}

/// The digest is the control plane's, so that a node that runs from files and one that does not tell the same of the same.
fn revision(policy: &v1::Policy) -> String {
    let digest = items::digest(&items::items(policy));
    digest[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is compiled so far.
struct Compiler<'p> {
    policy: &'p v1::Policy,
    violations: Violations,
    models: Vec<Model>,
    model_names: BTreeMap<&'p str, ModelIndex>,
    targets: Vec<Arc<Target>>,
    guardrails: BTreeMap<&'p str, Guardrail>,
    /// Where the targets are that carry them, of those that have one id for every region.
    guardrail_regions: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    flag_kinds: BTreeMap<&'p str, (FlagIndex, Type)>,
    flag_searches: Cell<u32>,
    /// The routes' names in the order of their indices.
    route_list: Vec<&'p str>,
    /// Conditions that may name flags, by their text: many routes share theirs.
    conditions: HashMap<&'p str, Result<Condition, condition::Error>>,
    answers: Answers,
}

impl<'p> Compiler<'p> {
    fn new(policy: &'p v1::Policy) -> Self {
        Compiler {
            policy,
            violations: Violations::default(),
            models: Vec::new(),
            model_names: BTreeMap::new(),
            targets: Vec::new(),
            guardrails: BTreeMap::new(),
            guardrail_regions: BTreeMap::new(),
            flag_kinds: BTreeMap::new(),
            flag_searches: Cell::new(50),
            route_list: policy.routes.keys().map(String::as_str).collect(),
            conditions: HashMap::new(),
            answers: Answers::default(),
        }
    }

    fn error(&mut self, code: &'static str, path: impl Into<String>, message: impl Into<String>) {
        self.violations.push(Violation::error(code, path, message));
    }

    fn warn(&mut self, code: &'static str, path: impl Into<String>, message: impl Into<String>) {
        self.violations.push(Violation::warning(code, path, message));
    }

    /// An unknown name, with the one that was probably meant.
    fn unknown<'a>(
        &mut self,
        code: &'static str,
        path: &str,
        message: String,
        name: &str,
        names: impl IntoIterator<Item = &'a str>,
    ) {
        let meant = self.violations.nearest(name, names);
        self.violations.push(Violation::error(code, path, message).suggest(meant));
    }

    /// A section or field that is stored and does nothing yet.
    fn not_executed(&mut self, path: impl Into<String>, what: &str) {
        self.warn("not_executed", path, format!("{what}: stored, and not executed by this version yet"));
    }

    /// A condition that may name flags.
    fn condition(&mut self, path: &str, text: &'p str) -> Option<Condition> {
        if !self.conditions.contains_key(text) {
            let parsed = self.parse(text);
            self.conditions.insert(text, parsed);
        }
        match self.conditions[text].clone() {
            Ok(condition) => Some(condition),
            Err(error) => {
                self.condition_error(path, text, error);
                None
            }
        }
    }

    fn parse(&self, text: &str) -> Result<Condition, condition::Error> {
        let lookup = |name: &str| match self.flag_kinds.get(name) {
            Some((index, kind)) => FlagLookup::Found { index: *index, kind: *kind },
            None => {
                let left = self.flag_searches.get();
                self.flag_searches.set(left.saturating_sub(1));
                let names = self.flag_kinds.keys().copied();
                FlagLookup::Unknown { nearest: if left > 0 { nearest(name, names) } else { None } }
            }
        };
        Condition::parse(text, &Scope::with_flags(&lookup))
    }

    fn condition_error(&mut self, path: &str, text: &str, error: condition::Error) {
        let before = text.get(..error.offset).map_or(0, |before| before.chars().count());
        let message = format!("{} (at character {} of the condition)", error.message, before + 1);
        self.violations.push(Violation::error(error.code, path, message).suggest(error.suggestion));
    }
}

/// Routes by their names and aliases.
type RouteNames = HashMap<Box<str>, RouteIndex>;
