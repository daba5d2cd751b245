//! Who may call: every method of every service that operators have, found in the descriptors.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use prost::Message;
use prost_types::FileDescriptorSet;
use switchtower_proto::{
    DESCRIPTORS,
    control::v1::{GetRevisionRequest, policy_service_client::PolicyServiceClient},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, codegen::Service, transport::Server};

use crate::support::{ANN, Bearer, FLEET, Plane, applying, number, prod, reason};

fn methods() -> Vec<String> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    let services = files.iter().filter(|file| file.package() == "switchtower.control.v1").flat_map(|file| {
        file.service.iter().map(move |service| (format!("{}.{}", file.package(), service.name()), &service.method))
    });
    services
        .flat_map(|(service, methods)| methods.iter().map(move |method| format!("/{service}/{}", method.name())))
        .collect()
}

/// The status of an empty request, and its reason.
async fn called(plane: &Plane, path: &str, authorization: Option<&str>) -> String {
    let mut request = http::Request::post(path).header("content-type", "application/grpc");
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let body = Full::new(Bytes::from_static(&[0; 5])).map_err(|never| match never {});
    let response = plane.routes().call(request.body(tonic::body::Body::new(body)).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
    let status = parts.headers.get("grpc-status").or_else(|| trailers.get("grpc-status"));
    status.unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn no_method_of_any_service_answers_without_an_operator_s_token() {
    let plane = Plane::new().await;
    let methods = methods();
    assert!(methods.len() >= 15, "{methods:?}");
    let unauthenticated = (Code::Unauthenticated as i32).to_string();
    let (unimplemented, ok) = ((Code::Unimplemented as i32).to_string(), format!("Bearer {ANN}"));
    for method in methods {
        for wrong in [None, Some(""), Some("Bearer "), Some("Bearer no"), Some(ANN), Some(&format!("Bearer {FLEET}"))] {
            assert_eq!(called(&plane, &method, wrong).await, unauthenticated, "{method} {wrong:?}");
        }
        // Or the test would pass for a service that refuses everybody, or that is not there.
        let status = called(&plane, &method, Some(&ok)).await;
        assert!(status != unauthenticated && status != unimplemented, "{method} {status}");
    }
}

#[tokio::test]
async fn a_server_takes_large_policies_and_refuses_larger_bodies_and_strangers() {
    let plane = Plane::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().add_routes(plane.routes()).serve_with_incoming(TcpListenerStream::new(listener));
    let server = tokio::spawn(server);
    let channel = tonic::transport::Endpoint::new(format!("http://{address}")).unwrap().connect().await.unwrap();
    let client = |token| {
        PolicyServiceClient::with_interceptor(channel.clone(), Bearer(token)).max_decoding_message_size(8 << 20)
    };

    let items = crate::policies_large::large(0);
    let applied = client(ANN).apply(applying(items.clone(), Some(0))).await.unwrap().into_inner();
    let get = GetRevisionRequest { environment: "prod".to_owned(), number: 0 };
    let got = client(ANN).get_revision(get).await.unwrap().into_inner();
    assert_eq!((got.items, number(&applied)), (items, 1));

    let mut larger = prod(1);
    larger[0].body = vec![0; 6 << 20].into();
    let refused = client(ANN).apply(applying(larger.clone(), None)).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
    let stranger = client("a-token-of-nobody-00000000000000000000").apply(applying(larger, None)).await.unwrap_err();
    assert_eq!((stranger.code(), reason(&stranger).as_str()), (Code::Unauthenticated, "TOKEN_REFUSED"));
    server.abort();
}
