//! The blocks of a turn.

use std::borrow::Cow;

use prost_types::Struct;
use switchtower_proto::inference::v1::{
    self as v1, content_block::Block as In, document, image, reasoning, tool_result_content,
};

use super::{object, one_member};
use crate::face::grpc::{
    converse::{
        Block, Document, DocumentSource, Image, ImageSource, Reasoning, ReasoningText, S3Location, ToolResult,
        ToolResultContent, ToolStatus, ToolUse,
    },
    json::{Any, Blob, Object, is_json},
    violations::{At, Violations},
};

/// Formats of pictures.
const IMAGES: [&str; 4] = ["png", "jpeg", "gif", "webp"];
/// Formats of documents.
const DOCUMENTS: [&str; 9] = ["pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"];
/// 3.75 and 4.5 MB in the larger reading of MB, so that nothing is refused here that the provider would take.
const IMAGE_BYTES: usize = 3_932_160;
const DOCUMENT_BYTES: usize = 4_718_592;
/// Bytes of an s3:// URI, by Bedrock's model.
const S3_URI_BYTES: std::ops::RangeInclusive<usize> = 6..=1024;

/// A block; `None`: none that this version knows, which is a violation.
pub(super) fn content<'a>(block: &'a v1::ContentBlock, at: &At<'_>, wrong: &mut Violations) -> Option<Block<'a>> {
    Some(match &block.block {
        Some(In::Text(text)) => {
            wrong.unless(!text.is_empty(), &at.field("text"), "must not be empty");
            Block::Text(Cow::Borrowed(text))
        }
        Some(In::Image(image)) => Block::Image(picture(image, &at.field("image"), wrong)?),
        Some(In::Document(document)) => Block::Document(paper(document, &at.field("document"), wrong)?),
        Some(In::ToolUse(tool)) => Block::ToolUse(tool_use(tool, &at.field("tool_use"), wrong)),
        Some(In::ToolResult(result)) => Block::ToolResult(tool_result(result, &at.field("tool_result"), wrong)),
        Some(In::Reasoning(thought)) => Block::ReasoningContent(thinking(thought, &at.field("reasoning"), wrong)?),
        Some(In::Other(other)) => Block::Other(one_member(other, at, wrong)),
        None => {
            wrong.add(at, "must be of a kind that this version knows");
            return None;
        }
    })
}

fn picture<'a>(image: &'a v1::Image, at: &At<'_>, wrong: &mut Violations) -> Option<Image<'a>> {
    wrong.unless(IMAGES.contains(&image.format.as_str()), &at.field("format"), "must be png, jpeg, gif or webp");
    let source = match &image.source {
        Some(image::Source::Data(data)) => {
            let fits = (1..=IMAGE_BYTES).contains(&data.len());
            wrong.unless(fits, &at.field("data"), "must have 1 byte to 3.75 MB");
            ImageSource::Bytes(Blob(Cow::Borrowed(data)))
        }
        Some(image::Source::S3Uri(uri)) => ImageSource::S3Location(s3(uri, at, wrong)),
        None => {
            wrong.add(&at.field("source"), "must be data or s3_uri");
            return None;
        }
    };
    Some(Image { format: Cow::Borrowed(&image.format), source })
}

fn paper<'a>(document: &'a v1::Document, at: &At<'_>, wrong: &mut Violations) -> Option<Document<'a>> {
    let format = Some(document.format.as_str()).filter(|format| !format.is_empty());
    wrong.unless(
        format.is_none_or(|format| DOCUMENTS.contains(&format)),
        &at.field("format"),
        "must be pdf, csv, doc, docx, xls, xlsx, html, txt, md or empty",
    );
    wrong.unless(
        is_document_name(&document.name),
        &at.field("name"),
        "must have 1 to 200 characters: letters, digits, single spaces, hyphens and brackets",
    );
    let source = match &document.source {
        Some(document::Source::Data(data)) => {
            let fits = (1..=DOCUMENT_BYTES).contains(&data.len());
            wrong.unless(fits, &at.field("data"), "must have 1 byte to 4.5 MB");
            DocumentSource::Bytes(Blob(Cow::Borrowed(data)))
        }
        Some(document::Source::S3Uri(uri)) => DocumentSource::S3Location(s3(uri, at, wrong)),
        Some(document::Source::Text(text)) => {
            wrong.unless(!text.is_empty(), &at.field("text"), "must not be empty");
            DocumentSource::Text(Cow::Borrowed(text))
        }
        None => {
            wrong.add(&at.field("source"), "must be data, s3_uri or text");
            return None;
        }
    };
    Some(Document { format: format.map(Cow::Borrowed), name: Cow::Borrowed(&document.name), source })
}

fn is_document_name(name: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '(' | ')' | '[' | ']');
    !name.is_empty() && name.chars().count() <= 200 && name.chars().all(allowed) && !name.contains("  ")
}

fn s3<'a>(uri: &'a str, at: &At<'_>, wrong: &mut Violations) -> S3Location<'a> {
    let plausible = S3_URI_BYTES.contains(&uri.len()) && uri.starts_with("s3://");
    wrong.unless(plausible, &at.field("s3_uri"), "must be an s3:// URI of at most 1024 bytes");
    S3Location { uri: Cow::Borrowed(uri) }
}

fn tool_use<'a>(tool: &'a v1::ToolUse, at: &At<'_>, wrong: &mut Violations) -> ToolUse<'a> {
    wrong.unless(is_short(&tool.id), &at.field("id"), "must have 1 to 64 characters");
    wrong.unless(is_short(&tool.name), &at.field("name"), "must have 1 to 64 characters");
    ToolUse {
        tool_use_id: Cow::Borrowed(&tool.id),
        name: Cow::Borrowed(&tool.name),
        input: match &tool.input {
            Some(input) => object(input, &at.field("input"), wrong),
            None => Object(Cow::Owned(Struct::default())),
        },
    }
}

fn is_short(text: &str) -> bool {
    (1..=64).contains(&text.chars().take(65).count())
}

fn tool_result<'a>(result: &'a v1::ToolResult, at: &At<'_>, wrong: &mut Violations) -> ToolResult<'a> {
    wrong.unless(is_short(&result.tool_use_id), &at.field("tool_use_id"), "must have 1 to 64 characters");
    let at = at.field("content");
    let content = result.content.iter().enumerate();
    ToolResult {
        tool_use_id: Cow::Borrowed(&result.tool_use_id),
        content: content.filter_map(|(index, piece)| result_content(piece, &at.index(index), wrong)).collect(),
        status: result.error.then_some(ToolStatus::Error),
    }
}

fn result_content<'a>(
    piece: &'a v1::ToolResultContent,
    at: &At<'_>,
    wrong: &mut Violations,
) -> Option<ToolResultContent<'a>> {
    use tool_result_content::Content;
    Some(match &piece.content {
        Some(Content::Text(text)) => ToolResultContent::Text(Cow::Borrowed(text)),
        Some(Content::Json(json)) => {
            wrong.unless(is_json(json), &at.field("json"), "must have a kind in every value, and finite numbers");
            ToolResultContent::Json(Any(Cow::Borrowed(json)))
        }
        Some(Content::Image(image)) => ToolResultContent::Image(picture(image, &at.field("image"), wrong)?),
        Some(Content::Document(document)) => {
            ToolResultContent::Document(paper(document, &at.field("document"), wrong)?)
        }
        Some(Content::Other(other)) => ToolResultContent::Other(one_member(other, at, wrong)),
        None => {
            wrong.add(at, "must be of a kind that this version knows");
            return None;
        }
    })
}

fn thinking<'a>(thought: &'a v1::Reasoning, at: &At<'_>, wrong: &mut Violations) -> Option<Reasoning<'a>> {
    Some(match &thought.reasoning {
        Some(reasoning::Reasoning::Text(text)) => {
            let signature = Some(text.signature.as_str()).filter(|signature| !signature.is_empty());
            // A model may withhold the words and give the proof alone; that has to be given back too.
            let given = !text.text.is_empty() || signature.is_some();
            wrong.unless(given, &at.field("text").field("text"), "must not be empty");
            Reasoning::ReasoningText(ReasoningText {
                text: Cow::Borrowed(&text.text),
                signature: signature.map(Cow::Borrowed),
            })
        }
        Some(reasoning::Reasoning::Redacted(bytes)) => {
            wrong.unless(!bytes.is_empty(), &at.field("redacted"), "must not be empty");
            Reasoning::RedactedContent(Blob(Cow::Borrowed(bytes)))
        }
        None => {
            wrong.add(at, "must be text or redacted");
            return None;
        }
    })
}
