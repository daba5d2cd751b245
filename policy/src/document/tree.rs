//! YAML as a tree whose every node and key knows its place.
//!
//! Built from the parser's events with a stack of its own, so that no nesting of a foreign file is a recursion of
//! ours. Aliases are replaced by copies of what they name, within a budget that all files of a policy share: a few
//! hundred bytes of anchors can otherwise ask for gigabytes.

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StructureStyle};
use hashbrown::HashMap;

use super::{At, MAX_BYTES, MAX_NESTING, MAX_NODES, unquoted};

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: At,
    pub(super) value: Value,
    /// It carried a tag that is not `!!str`: as it is spelt.
    pub(super) tag: Option<Box<str>>,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Mapping),
}

/// A scalar as it is spelt, escapes resolved.
#[derive(Clone, Debug)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Without quotes, so that it may be something else than text.
    pub(super) plain: bool,
    /// A comment follows it on its line.
    pub(super) comment: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Mapping {
    /// In the order of the file; a key may stand in it twice.
    pub(super) entries: Vec<(Key, Node)>,
    /// In braces, where an unquoted text ends at a comma.
    pub(super) braces: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) at: At,
    pub(super) text: String,
}

/// What keeps a file from being read, or part of it.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) at: At,
    pub(super) code: &'static str,
    pub(super) message: String,
}

/// What a file holds. Without a root: nothing, or `problems` says why.
pub(super) struct Read {
    pub(super) root: Option<Node>,
    pub(super) problems: Vec<Problem>,
}

/// What all files of a policy may use together.
pub(super) struct Budget {
    nodes: usize,
    /// Bytes of text copied for aliases.
    copied: usize,
}

impl Budget {
    pub(super) fn new() -> Self {
        Budget { nodes: MAX_NODES, copied: MAX_BYTES }
    }
}

pub(super) fn read(text: &str, budget: &mut Budget) -> Read {
    let mut options = granit_parser::options! {
        flow_nesting_limit: MAX_NESTING,
        block_nesting_limit: MAX_NESTING,
    };
    options.set_emit_comments(false);
    let mut builder = Builder::new(text, budget);
    for event in Parser::new_from_str_with_options(text, options) {
        let step = match event {
            Ok((event, span)) => builder.event(event, span),
            Err(error) => Err(malformed(text, &error)),
        };
        match step {
            Ok(true) => {}
            Ok(false) => break,
            Err(problem) => return Read { root: None, problems: vec![problem] },
        }
    }
    Read { root: builder.root, problems: builder.problems }
}

struct Builder<'t, 'b> {
    text: &'t str,
    budget: &'b mut Budget,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchor>,
    documents: usize,
    root: Option<Node>,
    problems: Vec<Problem>,
}

struct Open {
    node: Node,
    anchor: usize,
    /// In a mapping: the key whose value comes next.
    key: Option<Key>,
    size: Size,
}

#[derive(Clone, Copy)]
struct Size {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

struct Anchor {
    node: Node,
    size: Size,
}

impl<'t, 'b> Builder<'t, 'b> {
    fn new(text: &'t str, budget: &'b mut Budget) -> Self {
        Builder {
            text,
            budget,
            open: Vec::new(),
            anchors: HashMap::new(),
            documents: 0,
            root: None,
            problems: Vec::new(),
        }
    }

    /// Takes an event in; false: the rest of the file does not count.
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<bool, Problem> {
        let at = At::of(&span);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.problems.push(Problem {
                        at,
                        code: "several_documents",
                        message:
                            "a second document begins here: a file holds one; put the others into files of their own"
                                .to_owned(),
                    });
                    return Ok(false);
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = Scalar {
                    plain: style == ScalarStyle::Plain && !is_text(tag.as_deref()),
                    comment: style == ScalarStyle::Plain && self.comment_follows(&span),
                    text: text.into_owned(),
                };
                let size = Size { nodes: 1, bytes: scalar.text.len(), depth: 0 };
                self.spend(at, 1)?;
                self.close(
                    Node { at, value: Value::Scalar(scalar), tag: self.tag(tag.as_deref(), &span) },
                    anchor,
                    size,
                )?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.open(at, Value::Sequence(Vec::new()), anchor, self.tag(tag.as_deref(), &span))?;
            }
            Event::MappingStart(style, anchor, tag) => {
                let mapping = Mapping { entries: Vec::new(), braces: style == StructureStyle::Flow };
                self.open(at, Value::Mapping(mapping), anchor, self.tag(tag.as_deref(), &span))?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { node, anchor, size, .. }) = self.open.pop() {
                    self.close(node, anchor, size)?;
                }
            }
            Event::Alias(id) => self.alias(at, id)?,
            _ => {}
        }
        Ok(true)
    }

    fn open(&mut self, at: At, value: Value, anchor: usize, tag: Option<Box<str>>) -> Result<(), Problem> {
        self.spend(at, 1)?;
        if self.open.len() >= MAX_NESTING {
            return Err(too_deep(at));
        }
        let size = Size { nodes: 1, bytes: 0, depth: 1 };
        self.open.push(Open { node: Node { at, value, tag }, anchor, key: None, size });
        Ok(())
    }

    /// Hands a whole node to what it is part of.
    fn close(&mut self, node: Node, anchor: usize, size: Size) -> Result<(), Problem> {
        if anchor > 0 {
            self.copy(node.at, size)?;
            self.anchors.insert(anchor, Anchor { node: node.clone(), size });
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        parent.size.nodes += size.nodes;
        parent.size.bytes += size.bytes;
        parent.size.depth = parent.size.depth.max(size.depth + 1);
        match (&mut parent.node.value, parent.key.take()) {
            (Value::Sequence(items), _) => items.push(node),
            (Value::Mapping(mapping), Some(key)) => mapping.entries.push((key, node)),
            (Value::Mapping(_), None) => parent.key = Some(key(node)?),
            (Value::Scalar(_), _) => {}
        }
        Ok(())
    }

    fn alias(&mut self, at: At, id: usize) -> Result<(), Problem> {
        let Some(anchor) = self.anchors.get(&id) else {
            return Err(Problem {
                at,
                code: "malformed_yaml",
                message: "an alias stands inside the very thing that it names".to_owned(),
            });
        };
        let size = anchor.size;
        if self.open.len() + size.depth > MAX_NESTING {
            return Err(too_deep(at));
        }
        self.copy(at, size)?;
        let mut node = self.anchors[&id].node.clone();
        node.at = at;
        self.close(node, 0, size)
    }

    fn copy(&mut self, at: At, size: Size) -> Result<(), Problem> {
        self.spend(at, size.nodes)?;
        self.budget.copied = self.budget.copied.checked_sub(size.bytes).ok_or_else(|| too_large(at))?;
        Ok(())
    }

    fn spend(&mut self, at: At, nodes: usize) -> Result<(), Problem> {
        self.budget.nodes = self.budget.nodes.checked_sub(nodes).ok_or_else(|| too_large(at))?;
        Ok(())
    }

    fn tag(&self, tag: Option<&granit_parser::Tag>, span: &Span) -> Option<Box<str>> {
        let tag = tag.filter(|tag| !is_text(Some(tag)))?;
        let spelt =
            span.tag_span().and_then(|span| span.slice(self.text)).map_or_else(|| tag.original(), str::to_owned);
        Some(spelt.into())
    }

    fn comment_follows(&self, span: &Span) -> bool {
        let rest = span.end.byte_offset().and_then(|end| self.text.get(end..)).unwrap_or_default();
        rest.trim_start_matches([' ', '\t']).starts_with('#')
    }
}

fn is_text(tag: Option<&granit_parser::Tag>) -> bool {
    tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"))
}

fn key(node: Node) -> Result<Key, Problem> {
    match node.value {
        Value::Scalar(scalar) => Ok(Key { at: node.at, text: scalar.text }),
        _ => Err(Problem {
            at: node.at,
            code: "malformed_yaml",
            message: "a name was expected before `:`, and this is a list or a mapping; a text that begins with `{` or \
                      `[` must stand in quotes"
                .to_owned(),
        }),
    }
}

fn too_deep(at: At) -> Problem {
    Problem { at, code: "too_deep", message: format!("this is nested deeper than {MAX_NESTING} levels") }
}

fn too_large(at: At) -> Problem {
    Problem {
        at,
        code: "too_large",
        message: format!("with its anchors expanded the policy is larger than {MAX_NODES} values or {MAX_BYTES} bytes"),
    }
}

fn malformed(text: &str, error: &ScanError) -> Problem {
    let marker = error.marker();
    let at = At::new(marker.line(), marker.col());
    if let Some(problem) = unquoted::on_line(text, at) {
        return problem;
    }
    if matches!(error.kind(), granit_parser::ErrorKind::RecursionLimitExceeded) {
        return too_deep(at);
    }
    let line = text.lines().nth(marker.line().saturating_sub(1)).unwrap_or_default();
    let indent = &line[..line.len() - line.trim_start().len()];
    if indent.contains('\t') {
        let message = "a tab stands in the indentation: YAML is indented with spaces".to_owned();
        return Problem { at, code: "tab", message };
    }
    Problem { at, code: "malformed_yaml", message: format!("this is not YAML: {}", error.info()) }
}

impl At {
    pub(super) fn new(line: usize, column_from_0: usize) -> At {
        let bounded = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        At { line: bounded(line.max(1)), column: bounded(column_from_0.saturating_add(1)) }
    }

    fn of(span: &Span) -> At {
        At::new(span.start.line(), span.start.col())
    }
}
