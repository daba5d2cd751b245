//! The node's gRPC API, over one kept connection.

use std::{net::SocketAddr, time::Instant};

use anyhow::{Context, bail};
use switchtower_proto::inference::v1::{
    ContentBlock, GenerateRequest, GenerateStreamRequest, InferenceConfig, Message, Role, content_block,
    generate_stream_response::Event, inference_service_client::InferenceServiceClient,
};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use super::{Answered, Held};
use crate::scene::{self, MAX_TOKENS, METADATA, Scene};

pub(crate) struct Grpc {
    client: InferenceServiceClient<Channel>,
    authorization: MetadataValue<Ascii>,
    request: GenerateRequest,
}

impl Grpc {
    pub(super) async fn connect(address: SocketAddr, key: &str) -> anyhow::Result<Grpc> {
        let channel = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true).connect().await?;
        let text = ContentBlock { block: Some(content_block::Block::Text(scene::prompt())) };
        let request = GenerateRequest {
            messages: vec![Message { role: Role::User.into(), content: vec![text] }],
            inference_config: Some(InferenceConfig { max_tokens: Some(MAX_TOKENS), ..InferenceConfig::default() }),
            metadata: METADATA.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ..GenerateRequest::default()
        };
        let authorization = format!("Bearer {key}").parse()?;
        Ok(Grpc { client: InferenceServiceClient::new(channel), authorization, request })
    }

    pub(super) async fn ask(&mut self, scene: Scene, begun: Instant) -> anyhow::Result<Answered> {
        if scene == Scene::Whole {
            let request = self.authorized(self.asking(scene));
            let answer = self.client.generate(request).await?.into_inner();
            let waited = begun.elapsed();
            answer.message.context("an answer without a message is no answer")?;
            return Ok(Answered { waited, chunks: 0 });
        }
        let request = self.authorized(GenerateStreamRequest { request: Some(self.asking(scene)) });
        let mut events = self.client.generate_stream(request).await?.into_inner();
        let (mut waited, mut chunks, mut is_complete) = (None, 0, false);
        while let Some(message) = events.message().await? {
            match message.event {
                Some(Event::BlockDelta(_)) => {
                    waited.get_or_insert_with(|| begun.elapsed());
                    chunks += 1;
                }
                Some(Event::End(_)) => is_complete = true,
                _ => {}
            }
        }
        match waited {
            Some(waited) if is_complete => Ok(Answered { waited, chunks }),
            _ => bail!("the stream ended after {chunks} chunks, before its end"),
        }
    }

    pub(super) async fn hold(&mut self) -> anyhow::Result<Held> {
        let request = self.authorized(GenerateStreamRequest { request: Some(self.asking(Scene::Held)) });
        let mut events = self.client.generate_stream(request).await?.into_inner();
        loop {
            let message = events.message().await?.context("the stream ended before its first content")?;
            if let Some(Event::BlockDelta(_)) = message.event {
                return Ok(Held::Grpc { _events: Box::new(events) });
            }
        }
    }

    fn asking(&self, scene: Scene) -> GenerateRequest {
        GenerateRequest { route: scene.route().to_owned(), ..self.request.clone() }
    }

    fn authorized<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.authorization.clone());
        request
    }
}
