//! Two oracles: the AWS Rust signer on random requests, and requests that botocore and the clients themselves signed.

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use proptest::prelude::*;

use super::*;

const ID: &str = "SWTKABCDEFGHIJKLMNOP";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// A usual request, signed as the AWS SDK for Rust does.
pub(in crate::auth) fn signed_request(id: &str, secret: &str, region: &str, at: SystemTime) -> Request<Bytes> {
    let mut request = Request::new(Bytes::from_static(b"{\"messages\":[]}"));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static("/model/eu.a.b-v1%3A0/converse");
    request.headers_mut().insert("host", HeaderValue::from_static("node.example:8080"));
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    sign_as_aws_does(&mut request, Signer { id, secret, region, at, token: None, tell_hash: false });
    request
}

struct Signer<'a> {
    id: &'a str,
    secret: &'a str,
    region: &'a str,
    at: SystemTime,
    token: Option<String>,
    tell_hash: bool,
}

fn sign_as_aws_does(request: &mut Request<Bytes>, signer: Signer<'_>) {
    let mut settings = SigningSettings::default();
    if signer.tell_hash {
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    let identity = Credentials::new(signer.id, signer.secret, signer.token, None, "test").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(signer.region)
        .name("bedrock")
        .time(signer.at)
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let url = format!("http://node.example:8080{}", request.uri());
    let headers: Vec<(String, String)> =
        request.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    let signable = SignableRequest::new(
        request.method().as_str(),
        Cow::Owned(url),
        headers.iter().map(|(name, value)| (name.as_str(), value.as_str())),
        SignableBody::Bytes(request.body()),
    );
    let (instructions, _) = sign(signable.unwrap(), &params).unwrap().into_parts();
    let (headers, query) = instructions.into_parts();
    assert!(query.is_empty());
    for header in headers {
        request
            .headers_mut()
            .insert(HeaderName::from_static(header.name()), HeaderValue::from_str(header.value()).unwrap());
    }
}

fn read(request: Request<Bytes>) -> Option<Signed> {
    let (parts, body) = request.into_parts();
    let authorization = parts.headers.get("authorization")?.to_str().ok()?;
    Signed::of(authorization, &parts, &body)
}

fn is_right(request: Request<Bytes>, secret: &str) -> bool {
    read(request).is_some_and(|signed| signed.is_by(&signed.signing_key(secret)))
}

fn at() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    secret: String,
    method: String,
    uri: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Vector {
    fn all() -> Vec<Self> {
        serde_json::from_str(include_str!("../../../tests/vectors/sigv4.json")).unwrap()
    }

    fn request(&self) -> Request<Bytes> {
        let mut request = Request::builder().method(self.method.as_str()).uri(&self.uri);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(Bytes::copy_from_slice(self.body.as_bytes())).unwrap()
    }
}

#[test]
fn requests_as_clients_signed_them_are_right_and_under_another_secret_wrong() {
    let vectors = Vector::all();
    assert_eq!(vectors.len(), 15);
    for vector in vectors {
        assert!(is_right(vector.request(), &vector.secret), "{}", vector.name);
        assert!(!is_right(vector.request(), "another"), "{}", vector.name);
    }
}

#[test]
fn what_was_changed_on_the_way_is_refused() {
    let check = |vector: &Vector, what: &str, change: &dyn Fn(&mut Request<Bytes>)| {
        let mut request = vector.request();
        change(&mut request);
        assert!(!is_right(request, &vector.secret), "{}: {what}", vector.name);
    };
    for vector in Vector::all() {
        check(&vector, "method", &|request| *request.method_mut() = http::Method::PUT);
        check(&vector, "path", &|request| {
            let changed = request.uri().to_string().replace("/model/", "/model/x").replace("/async-", "/xasync-");
            *request.uri_mut() = changed.parse().unwrap();
        });
        check(&vector, "query", &|request| {
            let more = if request.uri().query().is_some() { "&a=" } else { "?a=" };
            *request.uri_mut() = format!("{}{more}", request.uri()).parse().unwrap();
        });
        check(&vector, "body", &|request| *request.body_mut() = [request.body().as_ref(), b" "].concat().into());
        let authorization = vector.request().headers()["authorization"].to_str().unwrap().to_owned();
        let flipped = |at: usize| {
            let digit = if &authorization[at..=at] == "0" { "1" } else { "0" };
            format!("{}{digit}{}", &authorization[..at], &authorization[at + 1..])
        };
        for at in [authorization.len() - 64, authorization.len() - 1] {
            let flipped = HeaderValue::from_str(&flipped(at)).unwrap();
            check(&vector, "signature", &|request| {
                request.headers_mut().insert("authorization", flipped.clone());
            });
        }
        let region = HeaderValue::from_str(&authorization.replacen("/bedrock/", "x/bedrock/", 1)).unwrap();
        check(&vector, "region", &|request| {
            request.headers_mut().insert("authorization", region.clone());
        });
        let names = authorization.split("SignedHeaders=").nth(1).unwrap().split(',').next().unwrap();
        for name in names.split(';').filter(|name| *name != ":authority") {
            check(&vector, name, &|request| {
                let changed = request.headers()[name].to_str().unwrap().replace(['0', '1'], "2") + "3";
                request.headers_mut().insert(HeaderName::try_from(name).unwrap(), changed.parse().unwrap());
            });
            check(&vector, name, &|request| {
                request.headers_mut().append(HeaderName::try_from(name).unwrap(), HeaderValue::from_static("x"));
            });
            check(&vector, name, &|request| {
                request.headers_mut().remove(name);
            });
        }
        if names.contains(":authority") {
            check(&vector, ":authority", &|request| {
                *request.uri_mut() = request.uri().to_string().replace("127.0.0.1", "127.0.0.2").parse().unwrap();
            });
        }
    }
}

#[test]
fn a_time_changed_on_the_way_within_its_day_is_refused() {
    let mut request = signed_request(ID, SECRET, "eu-west-1", at());
    assert!(is_right(request.clone(), SECRET));
    let stamp = request.headers()["x-amz-date"].to_str().unwrap().to_owned();
    let later = format!("{}{}Z", &stamp[..14], if &stamp[14..15] == "0" { "1" } else { "0" });
    assert_eq!(later.len(), 16);
    request.headers_mut().insert("x-amz-date", later.parse().unwrap());
    assert!(!is_right(request, SECRET));
}

#[test]
fn over_http_2_host_and_authority_are_both_the_target_s() {
    let vector = Vector::all().into_iter().find(|vector| vector.name == "botocore: an encoded colon").unwrap();
    let mut request = vector.request();
    request.headers_mut().remove("host");
    *request.uri_mut() = format!("http://node.example:8080{}", vector.uri).parse().unwrap();
    assert!(is_right(request, &vector.secret));
}

#[test]
fn metadata_that_is_not_signed_is_refused() {
    let check = |name: &'static str, signed: bool, expected: bool| {
        let mut request = signed_request(ID, SECRET, "eu-west-1", at());
        request.headers_mut().insert(name, HeaderValue::from_static("gold"));
        if signed {
            for name in ["authorization", "x-amz-date"] {
                request.headers_mut().remove(name);
            }
            let signer =
                Signer { id: ID, secret: SECRET, region: "eu-west-1", at: at(), token: None, tell_hash: false };
            sign_as_aws_does(&mut request, signer);
        }
        assert_eq!(is_right(request, SECRET), expected, "{name}");
    };
    check("x-switchtower-metadata-tier", true, true);
    check("x-switchtower-metadata-tier", false, false);
    check("x-switchtower-metadata-", false, false);
    check("x-forwarded-for", false, true);
}

#[test]
fn a_payload_hash_that_is_not_the_body_s_is_refused_even_if_signed() {
    for told in ["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", &"0".repeat(64), ""] {
        let mut request = signed_request(ID, SECRET, "eu-west-1", at());
        for name in ["authorization", "x-amz-date"] {
            request.headers_mut().remove(name);
        }
        request.headers_mut().insert("x-amz-content-sha256", told.parse().unwrap());
        sign_as_aws_does(
            &mut request,
            Signer { id: ID, secret: SECRET, region: "eu-west-1", at: at(), token: None, tell_hash: false },
        );
        assert!(read(request).is_none(), "{told}");
    }
}

#[test]
fn a_header_that_is_not_of_this_form_is_unreadable() {
    let date = "20260921";
    let credential = format!("Credential={ID}/{date}/eu-west-1/bedrock/aws4_request");
    let headers = "SignedHeaders=content-type;host;x-amz-date";
    let signature = format!("Signature={}", "a".repeat(64));
    let check = |header: &str, readable: bool| {
        let (parts, body) = signed_request(ID, SECRET, "eu-west-1", at()).into_parts();
        assert_eq!(Signed::of(header, &parts, &body).is_some(), readable, "{header}");
    };
    check(&format!("{ALGORITHM} {credential}, {headers}, {signature}"), true);
    check(&format!("{ALGORITHM} {signature},{credential},{headers}"), true);
    check("", false);
    check(ALGORITHM, false);
    check(&format!("{ALGORITHM} "), false);
    check(&format!("{ALGORITHM}-X {credential}, {headers}, {signature}"), false);
    check(&format!("{ALGORITHM} {credential}, {headers}"), false);
    check(&format!("{ALGORITHM} {credential}, {signature}"), false);
    check(&format!("{ALGORITHM} {headers}, {signature}"), false);
    check(&format!("{ALGORITHM} {credential}, {headers}, {signature},"), false);
    check(&format!("{ALGORITHM} {credential}, {headers}, {signature}, Extra=1"), false);
    check(&format!("{ALGORITHM} {credential}, {headers}, {headers}, {signature}"), false);
    check(&format!("{ALGORITHM} {credential} {headers} {signature}"), false);
    for signature in [String::new(), "a".repeat(63), "a".repeat(66), "g".repeat(64), "é".repeat(32)] {
        check(&format!("{ALGORITHM} {credential}, {headers}, Signature={signature}"), false);
    }
    for credential in [
        "",
        ID,
        "////",
        &format!("{ID}/{date}/eu-west-1/bedrock"),
        &format!("{ID}/{date}/eu-west-1/bedrock/aws4_request/"),
        &format!("{ID}/{date}/eu-west-1/s3/aws4_request"),
        &format!("{ID}/{date}/eu-west-1/bedrock/aws5_request"),
        &format!("/{date}/eu-west-1/bedrock/aws4_request"),
        &format!("{ID}/{date}//bedrock/aws4_request"),
        &format!("{ID}/20260922/eu-west-1/bedrock/aws4_request"),
        &format!("{ID}/2026/eu-west-1/bedrock/aws4_request"),
    ] {
        check(&format!("{ALGORITHM} Credential={credential}, {headers}, {signature}"), false);
    }
    for names in ["", ";", "host", "x-amz-date", "content-type;x-amz-date", "x-amz-date;host", "host;host;x-amz-date"] {
        check(&format!("{ALGORITHM} {credential}, SignedHeaders={names}, {signature}"), false);
    }
    check(&format!("{ALGORITHM} {credential}, SignedHeaders=absent;host;x-amz-date, {signature}"), false);
    check(&format!("{ALGORITHM} {credential}, SignedHeaders=:authority;host;x-amz-date, {signature}"), false);
}

#[test]
fn the_signing_time_is_read_in_both_its_forms_and_no_other() {
    let check = |name: &'static str, value: &str, expected: Option<&str>| {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        assert_eq!(
            SigningTime::of(&headers).map(|time| time.stamp.into_owned()).as_deref(),
            expected,
            "{name}: {value}"
        );
    };
    check("x-amz-date", "20261122T212542Z", Some("20261122T212542Z"));
    check("date", "Sun, 22 Nov 2026 21:25:42 GMT", Some("20261122T212542Z"));
    check("date", "Sun, 22 Nov 2026 21:25:42 -0000", Some("20261122T212542Z"));
    check("date", "Sun, 22 Nov 2026 22:25:42 +0100", Some("20261122T212542Z"));
    for wrong in ["", "20261122", "20261122T212542", "20261322T212542Z", "20261122T212542Z ", "+20261122T212542Z", "é"]
    {
        check("x-amz-date", wrong, None);
        check("date", wrong, None);
    }
}

/// A path of the raw kind: segments of unreserved characters, percent-encoded bytes and raw colons.
fn path() -> impl Strategy<Value = String> {
    let segment = r"[a-zA-Z0-9_~-](%2F|%3A|%20|%C3%A9|[a-zA-Z0-9._~:@!$&'()*+,;=-]){0,12}";
    prop::collection::vec(segment, 1..5).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn query() -> impl Strategy<Value = Option<String>> {
    let pair = r"[a-zA-Z]{1,4}(=(%2F|%3D|%26|%C3%A9|\+|[a-zA-Z0-9._~:-]){0,6})?";
    prop::option::of(prop::collection::vec(pair, 1..5).prop_map(|pairs| pairs.join("&")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_the_aws_signer_signs_is_right(
        method in prop::sample::select(vec!["GET", "POST", "PUT"]),
        path in path(),
        query in query(),
        headers in prop::collection::vec(("x-[a-z]{1,6}", "[ -~]{0,24}"), 0..6),
        body in prop::collection::vec(any::<u8>(), 0..200),
        token in prop::option::of("[a-zA-Z0-9/+=]{1,20}"),
        tell_hash in any::<bool>(),
        region in "[a-z]{2}-[a-z]{4,9}-[1-9]",
        seconds in 946_684_800u64..4_000_000_000,
    ) {
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = method.parse().unwrap();
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        *request.uri_mut() = format!("{path}{query}").parse().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        request.headers_mut().insert("host", HeaderValue::from_static("node.example:8080"));
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        sign_as_aws_does(&mut request, Signer { id: ID, secret: SECRET, region: &region, at, token, tell_hash });
        let signed = read(request).expect("it is signed");
        prop_assert!(signed.is_by(&signed.signing_key(SECRET)));
        prop_assert_eq!(signed.access_key_id(), ID);
        prop_assert_eq!(signed.region(), region);
        prop_assert_eq!(signed.at, at);
    }

    #[test]
    fn no_header_is_too_strange(rest in "[ -~]{0,120}", names in "[a-z:;-]{0,40}", uri in path()) {
        let (mut parts, body) = signed_request(ID, SECRET, "eu-west-1", at()).into_parts();
        parts.uri = uri.parse().unwrap();
        let credential = format!("Credential={ID}/20260921/eu-west-1/bedrock/aws4_request");
        for header in [
            format!("{ALGORITHM} {rest}"),
            format!("{ALGORITHM} {credential}, SignedHeaders={names}, Signature={}", "a".repeat(64)),
        ] {
            if let Some(signed) = Signed::of(&header, &parts, &body) {
                prop_assert!(!signed.is_by(&signed.signing_key(SECRET)));
            }
        }
    }
}
