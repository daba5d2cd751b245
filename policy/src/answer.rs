//! Answers of our own: what a caller reads when no model may or can be asked.
//!
//! A template is minijinja over four variables: `metadata` (a map of texts), `route`, `caller` and `request_id`. What
//! is missing is empty, at any depth: an apology with a gap is better than none, and metadata is the caller's to leave
//! out. Rendering happens when everything else has failed, so it does not fail: a template that goes wrong on a
//! request gives [`APOLOGY`] instead. Every rendering has a budget of instructions and memory, and a longest output.

use std::{collections::BTreeMap, io};

use hashbrown::HashMap;
use minijinja::{Environment, UndefinedBehavior, Value};

use crate::{Facts, Snapshot, snapshot::AnswerIndex};

/// What a template that goes wrong on a request gives.
pub const APOLOGY: &str = "The service cannot answer right now. Please try again later.";

/// Longest output in bytes: an answer of our own is a few sentences, and metadata that is put into it is the caller's.
pub const MAX_OUTPUT: usize = 64 * 1024;

/// Instructions, and at 64 bytes each also memory (1.3 MB), that one rendering may use.
const FUEL: u64 = 20_000;

/// Longest tag in bytes.
const MAX_TAG: usize = 500;

/// Most tags in one template.
const MAX_TAGS: usize = 100;

/// The variables that a template may name.
const VARIABLES: [&str; 4] = ["metadata", "route", "caller", "request_id"];

/// The templates of a policy.
#[derive(Debug)]
pub struct Answers {
    environment: Environment<'static>,
    names: Vec<String>,
    by_text: HashMap<String, AnswerIndex>,
}

/// Why a text is not a template.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Error {
    /// Line in the template, from 1.
    pub(crate) line: Option<usize>,
    pub(crate) message: String,
    pub(crate) suggestion: Option<String>,
}

impl Default for Answers {
    fn default() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        Answers { environment, names: Vec::new(), by_text: HashMap::new() }
    }
}

impl Answers {
    /// Takes a template in; the same text twice is one template.
    ///
    /// # Errors
    /// It does not parse, or names what is not there.
    pub(crate) fn add(&mut self, text: &str) -> Result<AnswerIndex, Error> {
        if let Some(index) = self.by_text.get(text) {
            return Ok(*index);
        }
        bounded(text)?;
        let name = self.names.len().to_string();
        self.environment.add_template_owned(name.clone(), text.to_owned()).map_err(|error| refused(&error))?;
        if let Err(error) = self.probe(&name) {
            self.environment.remove_template(&name);
            return Err(error);
        }
        let index = AnswerIndex(self.names.len() as u32);
        self.names.push(name);
        self.by_text.insert(text.to_owned(), index);
        Ok(index)
    }

    /// Finds unknown variables, and by rendering once with nothing set, unknown filters and functions where they are
    /// reached.
    fn probe(&self, name: &str) -> Result<(), Error> {
        let template = self.environment.get_template(name).map_err(|error| refused(&error))?;
        let mut unknown: Vec<String> = template.undeclared_variables(false).into_iter().collect();
        unknown.retain(|name| {
            !VARIABLES.contains(&name.as_str()) && !self.environment.globals().any(|(global, _)| global == name)
        });
        unknown.sort();
        if let Some(name) = unknown.first() {
            return Err(Error {
                line: None,
                message: format!(
                    "no variable is called {}; there are {}",
                    crate::violation::quoted(name),
                    VARIABLES.join(", ")
                ),
                suggestion: crate::violation::nearest(name, VARIABLES),
            });
        }
        self.render(name, minijinja::context! { metadata => map([]) }).map(|_| ()).map_err(|error| refused(&error))
    }

    fn render(&self, name: &str, variables: Value) -> Result<String, minijinja::Error> {
        let mut output = Bounded::default();
        let rendered = self.environment.get_template(name)?.render_captured_to(variables, &mut output).map(|_| ());
        if output.full {
            return Ok(output.into_text());
        }
        rendered.map(|()| output.into_text())
    }
}

/// Refuses templates whose tags are so long or so many that parsing them, which recurses with them, could overflow a
/// stack. The parser bounds brackets itself, but not chains of operators, and those overflow 2 MiB of stack at about a
/// thousand links in a debug build. `raw` is refused because with it this could not tell tags from text.
fn bounded(text: &str) -> Result<(), Error> {
    let refused = |at: usize, message: String| {
        Err(Error { line: Some(text[..at].matches('\n').count() + 1), message, suggestion: None })
    };
    let mut at = 0;
    let mut tags = 0;
    while let Some(begin) = next_tag(text, at) {
        let end = match text.as_bytes()[begin + 1] {
            b'#' => text[begin + 2..].find("#}").map_or(text.len(), |end| begin + 2 + end + 2),
            _ => end_of_tag(text, begin + 2),
        };
        at = end;
        if text.as_bytes()[begin + 1] == b'#' {
            continue;
        }
        tags += 1;
        if tags > MAX_TAGS {
            return refused(begin, format!("a template has at most {MAX_TAGS} tags"));
        }
        if end - begin > MAX_TAG {
            return refused(begin, format!("a tag is at most {MAX_TAG} bytes long"));
        }
        if text[begin + 2..end].trim_start_matches(['-', '+']).trim_start().starts_with("raw") {
            return refused(begin, "`raw` is not supported: write `{{ '{{' }}` for two braces".to_owned());
        }
    }
    Ok(())
}

/// Where the next `{{`, `{%` or `{#` begins.
fn next_tag(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    (from..bytes.len().saturating_sub(1)).find(|at| bytes[*at] == b'{' && matches!(bytes[at + 1], b'{' | b'%' | b'#'))
}

/// Where a tag ends; ends inside texts in quotes do not count.
fn end_of_tag(text: &str, from: usize) -> usize {
    let bytes = text.as_bytes();
    let mut quote = None;
    let mut at = from;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(bytes[at]),
            (None, b'}' | b'%') if bytes.get(at + 1) == Some(&b'}') => return at + 2,
            (None, _) => {}
        }
        at += 1;
    }
    text.len()
}

fn refused(error: &minijinja::Error) -> Error {
    let message = match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    };
    Error { line: error.line(), message, suggestion: None }
}

impl Snapshot {
    /// The text of an `answer` tier for one request, at most [`MAX_OUTPUT`] bytes; longer ones end there. A template
    /// that goes wrong on this request gives [`APOLOGY`].
    #[must_use]
    pub fn answer(&self, answer: AnswerIndex, route: &str, facts: &Facts<'_>) -> String {
        let variables = minijinja::context! {
            metadata => map(facts.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str()))),
            route => route,
            caller => &*facts.caller.name,
            request_id => facts.request_id,
        };
        let name = &self.answers.names[answer.0 as usize];
        self.answers.render(name, variables).unwrap_or_else(|_| APOLOGY.to_owned())
    }
}

/// A map of texts; a key that stands twice counts where it stands last.
fn map<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    Value::from_pairs(pairs.into_iter().collect::<BTreeMap<_, _>>())
}

/// Takes what fits and refuses the rest, which ends the rendering.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl Bounded {
    fn into_text(self) -> String {
        match String::from_utf8(self.bytes) {
            Ok(text) => text,
            // The bound cut a character in two.
            Err(error) => {
                let whole = error.utf8_error().valid_up_to();
                String::from_utf8_lossy(&error.as_bytes()[..whole]).into_owned()
            }
        }
    }
}

impl io::Write for Bounded {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let taken = text.len().min(MAX_OUTPUT - self.bytes.len());
        self.bytes.extend_from_slice(&text[..taken]);
        if taken < text.len() {
            self.full = true;
            return Err(io::Error::other("the output is full"));
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(template: &str, metadata: &[(&str, &str)], expected: &str) {
        let mut answers = Answers::default();
        let index = answers.add(template).unwrap();
        let variables = minijinja::context! {
            metadata => map(metadata.iter().copied()),
            route => "support-chat",
        };
        let name = &answers.names[index.0 as usize];
        let text = answers.render(name, variables).unwrap_or_else(|_| APOLOGY.to_owned());
        assert_eq!(text, expected, "{template}");
    }

    #[test]
    fn a_template_sees_the_request_and_what_is_missing_is_empty() {
        check("busy", &[], "busy");
        check("ticket {{ metadata.ticket }}.", &[("ticket", "7")], "ticket 7.");
        check("ticket {{ metadata.ticket }}.", &[], "ticket .");
        check("{{ metadata.a.b.c }}{{ route }}", &[], "support-chat");
        check("{{ metadata.ticket | default('-') | upper }}", &[("ticket", "a")], "A");
        check("{% if metadata.vip %}sir{% else %}you{% endif %}", &[("vip", "1")], "sir");
        check("<{{ metadata.a }}>", &[("a", "<&>")], "<<&>>");
    }

    #[test]
    fn a_template_that_goes_wrong_on_a_request_gives_the_apology() {
        let counts = "{% if metadata.go %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{% endif %}";
        check(counts, &[("go", "1")], APOLOGY);
        check("{% if metadata.go %}{{ metadata.go | nonsense }}{% endif %}", &[("go", "1")], APOLOGY);
        let doubles =
            "{% set ns = namespace(x=metadata.go) %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}";
        check(doubles, &[("go", "xxxxxxxx")], APOLOGY);
    }

    #[test]
    fn output_ends_at_the_bound_between_two_characters() {
        let mut answers = Answers::default();
        answers.add("{% for i in range(2000) %}{{ metadata.x }}{% endfor %}").unwrap();
        let x = "ä".repeat(25);
        let text = answers.render("0", minijinja::context! { metadata => map([("x", x.as_str())]) }).unwrap();
        assert!(text.len() <= MAX_OUTPUT && text.len() > MAX_OUTPUT - 2, "{}", text.len());
    }

    #[test]
    fn what_is_no_template_is_refused_with_its_line() {
        let refused = |text: &str| Answers::default().add(text).unwrap_err();
        assert_eq!(refused("a\nb {{ }").line, Some(2));
        assert_eq!(refused("{% frobnicate %}").line, Some(1));
        assert!(refused("{{ route | nonsense }}").message.contains("nonsense"));
        assert_eq!(refused("{{ metdata.ticket }}").suggestion.as_deref(), Some("metadata"));
    }

    #[test]
    fn a_template_that_nests_deeply_is_refused_on_a_small_stack() {
        let many = |begin: &str, times: usize, end: &str| format!("{begin}{}{end}", "x".repeat(times));
        for (link, times) in [("(", 8000), ("[", 8000), ("not ", 4000), ("-", 16_000), ("1+", 8000), ("1**", 5000)] {
            let deep = many("{{ ", times, "1 }}").replace('x', link);
            assert!(Answers::default().add(&deep).is_err(), "{link}");
        }
        for (link, times) in [("{% if 1 %}", 1500), ("{% elif 1 %}", 1300)] {
            let deep = many("{% if 1 %}", times, "{% endif %}").replace('x', link);
            assert!(Answers::default().add(&deep).is_err(), "{link}");
        }
        // What hides a long tag from a reader of brackets.
        for hidden in ["{{ '}}' +x }}", "{% raw %}{{ \" {% endraw %}{{ \"}}\" +x }}", "{# {{ #}{{ '\\'}}' +x }}"] {
            let deep = hidden.replace('x', &"1+".repeat(4000));
            assert!(Answers::default().add(&deep).is_err(), "{hidden}");
        }
        // The longest that is allowed does not overflow.
        let longest = format!("{{{{ metadata{} }}}}", ".a".repeat(240));
        assert!(Answers::default().add(&longest).is_ok());
        let longest = format!("{{% if route %}}{}{{% endif %}}", "{% elif 1 %}".repeat(98));
        assert!(Answers::default().add(&longest).is_ok());
    }
}
