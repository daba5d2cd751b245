//! Requests made easy, and the text of answers.

use switchtower_proto::inference::v1::{
    ContentBlock, GenerateRequest, GenerateResponse, Message, Role, SystemBlock, content_block, system_block,
};

/// A request in the making. What has no method here is a field of [`GenerateRequest`]:
/// `GenerateRequest::from(request)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Request(GenerateRequest);

impl Request {
    /// Asks a route one thing.
    #[must_use]
    pub fn text(route: impl Into<String>, text: impl Into<String>) -> Self {
        Request(GenerateRequest { route: route.into(), ..GenerateRequest::default() }).user(text)
    }

    /// Adds an instruction above the conversation.
    #[must_use]
    pub fn system(mut self, text: impl Into<String>) -> Self {
        self.0.system.push(SystemBlock { block: Some(system_block::Block::Text(text.into())) });
        self
    }

    /// Adds a turn of the user.
    #[must_use]
    pub fn user(self, text: impl Into<String>) -> Self {
        self.turn(Role::User, text.into())
    }

    /// Adds a turn of the model, as it was answered before.
    #[must_use]
    pub fn assistant(self, text: impl Into<String>) -> Self {
        self.turn(Role::Assistant, text.into())
    }

    /// Sets the most output tokens, 1 or more.
    #[must_use]
    pub fn max_tokens(mut self, tokens: u32) -> Self {
        self.0.inference_config.get_or_insert_default().max_tokens = Some(tokens);
        self
    }

    /// Sets the randomness, 0 to 1.
    #[must_use]
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.0.inference_config.get_or_insert_default().temperature = Some(temperature);
        self
    }

    /// Adds a fact for the policy's conditions and for records, such as `targeting_key` or `session`.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.metadata.insert(key.into(), value.into());
        self
    }

    fn turn(mut self, role: Role, text: String) -> Self {
        let content = vec![ContentBlock { block: Some(content_block::Block::Text(text)) }];
        self.0.messages.push(Message { role: role.into(), content });
        self
    }
}

impl From<Request> for GenerateRequest {
    fn from(request: Request) -> Self {
        request.0
    }
}

/// The text of an answer: its text blocks in order. Empty: it has none, as one that only asks for a tool.
#[must_use]
pub fn text(answer: &GenerateResponse) -> String {
    let blocks = answer.message.iter().flat_map(|message| &message.content);
    blocks
        .filter_map(|block| match &block.block {
            Some(content_block::Block::Text(text)) => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use switchtower_proto::inference::v1::Reasoning;

    use super::*;

    #[test]
    fn a_conversation_is_built_in_order() {
        let request = Request::text("support-chat", "a").assistant("b").user("c").system("s").max_tokens(5);
        let message = GenerateRequest::from(request.temperature(0.5).metadata("session", "s1"));
        let roles: Vec<_> = message.messages.iter().map(Message::role).collect();
        assert_eq!(roles, [Role::User, Role::Assistant, Role::User]);
        assert_eq!((message.route.as_str(), message.system.len()), ("support-chat", 1));
        let config = message.inference_config.unwrap();
        assert_eq!((config.max_tokens, config.temperature), (Some(5), Some(0.5)));
        assert_eq!(message.metadata["session"], "s1");
    }

    #[test]
    fn the_text_of_an_answer_is_its_text_blocks() {
        let content = [
            content_block::Block::Reasoning(Reasoning::default()),
            content_block::Block::Text("a".to_owned()),
            content_block::Block::Text("b".to_owned()),
        ]
        .map(|block| ContentBlock { block: Some(block) });
        let message = Message { role: Role::Assistant.into(), content: content.into() };
        assert_eq!(text(&GenerateResponse { message: Some(message), end: None }), "ab");
        assert_eq!(text(&GenerateResponse::default()), "");
    }
}
