//! Where a region's Bedrock Runtime is, and how a model is named in a path there.
//!
//! The rules are the AWS SDK's; the tests hold them against the SDK's own resolver.

use std::{collections::BTreeMap, fmt::Write as _};

use http::{HeaderValue, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::Operation;

/// What stays as it is in one segment of a path. The SDK encodes all else, `:` included, and signs it so.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same for a whole path.
const PATH: &AsciiSet = &SEGMENT.remove(b'/');

/// Where Bedrock Runtime is called: AWS's own endpoint of each region, unless another is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    everywhere: Option<Uri>,
    by_region: BTreeMap<Box<str>, Uri>,
    fips: bool,
}

/// What is wrong with an endpoint. Its text quotes no credentials: a URL that could hold some is not quoted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not an `http` or `https` URL with a host and without user, query and fragment.
    #[error("{0} is no URL of an endpoint: write http(s)://host[:port][/path], without user, query or fragment")]
    Url(String),
    /// Not the name of a region.
    #[error("`{0}` is not the name of an AWS region: write lower-case letters, digits and `-`")]
    Region(String),
}

impl Endpoints {
    /// The same endpoint for every region that has none of its own.
    ///
    /// # Errors
    /// Not a URL of an endpoint.
    pub fn everywhere(mut self, url: &str) -> Result<Self, Invalid> {
        self.everywhere = Some(base_url(url, "the endpoint")?);
        Ok(self)
    }

    /// An endpoint for one region.
    ///
    /// # Errors
    /// Not the name of a region, or not a URL of an endpoint.
    pub fn region(mut self, region: &str, url: &str) -> Result<Self, Invalid> {
        if !is_region(region) {
            return Err(Invalid::Region(region.to_owned()));
        }
        self.by_region.insert(region.into(), base_url(url, &format!("the endpoint of {region}"))?);
        Ok(self)
    }

    /// As the environment says, in the AWS SDK's words: `AWS_ENDPOINT_URL_BEDROCK_RUNTIME`, else `AWS_ENDPOINT_URL`,
    /// neither where `AWS_IGNORE_CONFIGURED_ENDPOINT_URLS` is `true`; FIPS endpoints where `AWS_USE_FIPS_ENDPOINT` is.
    ///
    /// # Errors
    /// Not a URL of an endpoint.
    pub fn from_env(get: &impl Fn(&str) -> Option<String>) -> Result<Self, Invalid> {
        let is_true = |key| get(key).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let mut endpoints = Endpoints { fips: is_true("AWS_USE_FIPS_ENDPOINT"), ..Endpoints::default() };
        if is_true("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") {
            return Ok(endpoints);
        }
        for key in ["AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "AWS_ENDPOINT_URL"] {
            if let Some(url) = get(key).filter(|url| !url.is_empty()) {
                endpoints.everywhere = Some(base_url(&url, key)?);
                break;
            }
        }
        Ok(endpoints)
    }

    /// Whether any region can end up at an `https` URL.
    pub(super) fn need_tls(&self) -> bool {
        let is_tls = |uri: &Uri| uri.scheme_str() == Some("https");
        self.everywhere.as_ref().is_none_or(is_tls) || self.by_region.values().any(is_tls)
    }

    /// The endpoint of a region.
    pub(super) fn of(&self, region: &str) -> Result<Endpoint, Invalid> {
        // The region becomes part of a host name and of what is signed.
        if !is_region(region) {
            return Err(Invalid::Region(region.to_owned()));
        }
        let uri = match self.by_region.get(region).or(self.everywhere.as_ref()) {
            Some(uri) => uri.clone(),
            None => base_url(&aws_url(region, self.fips), "the endpoint")?,
        };
        Endpoint::new(region, uri)
    }
}

fn aws_url(region: &str, fips: bool) -> String {
    let fips = if fips { "-fips" } else { "" };
    // The partitions by their prefixes, as in the SDK's table of partitions.
    let suffix = match region {
        r if r.starts_with("cn-") => "amazonaws.com.cn",
        r if r.starts_with("us-iso-") => "c2s.ic.gov",
        r if r.starts_with("us-isob-") => "sc2s.sgov.gov",
        r if r.starts_with("us-isof-") => "csp.hci.ic.gov",
        r if r.starts_with("eu-isoe-") => "cloud.adc-e.uk",
        r if r.starts_with("eusc-") => "amazonaws.eu",
        _ => "amazonaws.com",
    };
    format!("https://bedrock-runtime{fips}.{region}.{suffix}")
}

fn is_region(region: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&region.len())
        && region.bytes().all(allowed)
        && !region.starts_with('-')
        && !region.ends_with('-')
}

/// `what` names the URL in the error: the URL itself could hold a password.
fn base_url(url: &str, what: &str) -> Result<Uri, Invalid> {
    let invalid = || Invalid::Url(what.to_owned());
    let uri: Uri = url.parse().map_err(|_| invalid())?;
    let authority = uri.authority().ok_or_else(invalid)?;
    let is_plain = matches!(uri.scheme_str(), Some("http" | "https"))
        && !uri.host().unwrap_or_default().is_empty()
        && !authority.as_str().contains('@')
        && uri.query().is_none()
        && !url.contains('#');
    if is_plain { Ok(uri) } else { Err(invalid()) }
}

/// One region's endpoint.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// For the connector: scheme, host, port.
    pub(super) uri: Uri,
    /// `Host`, which is signed.
    pub(super) host: HeaderValue,
    /// Path that an override puts before the API's own, without a slash at its end.
    prefix: Box<str>,
}

impl Endpoint {
    fn new(region: &str, uri: Uri) -> Result<Self, Invalid> {
        let invalid = || Invalid::Url(format!("the endpoint of {region}"));
        let authority = uri.authority().ok_or_else(invalid)?;
        let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let host = match authority.port_u16() {
            Some(port) if port != default_port => authority.as_str(),
            _ => authority.host(),
        };
        let host = HeaderValue::from_str(host).map_err(|_| invalid())?;
        let prefix = uri.path().trim_end_matches('/').into();
        Ok(Endpoint { host, prefix, uri })
    }

    /// Path of a model's operation: as it goes over the wire, and as it is signed, which encodes it once more.
    pub(super) fn path(&self, model: &str, operation: Operation) -> Path {
        let operation = match operation {
            Operation::Converse => "converse",
            Operation::ConverseStream => "converse-stream",
        };
        let mut wire = String::with_capacity(self.prefix.len() + model.len() + 40);
        write!(wire, "{}/model/{}/{operation}", self.prefix, utf8_percent_encode(model, SEGMENT))
            .expect("writing to a string cannot fail");
        let canonical = utf8_percent_encode(&wire, PATH).to_string();
        Path { wire, canonical }
    }
}

/// A path in its two forms.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// Over the wire.
    pub(super) wire: String,
    /// In what is signed.
    pub(super) canonical: String,
}

#[cfg(test)]
mod tests {
    use aws_sdk_bedrockruntime::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};

    use super::*;

    fn env(pairs: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
        move |key| pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| (*v).to_owned())
    }

    #[test]
    fn every_region_of_every_partition_is_where_the_sdk_finds_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for region in [
            "us-east-1",
            "us-west-2",
            "eu-central-1",
            "ap-northeast-3",
            "mx-central-1",
            "il-central-1",
            "us-gov-west-1",
            "us-gov-east-1",
            "cn-north-1",
            "cn-northwest-1",
            "us-iso-east-1",
            "us-isob-east-1",
            "us-isof-south-1",
            "eu-isoe-west-1",
            "eusc-de-east-1",
            "xx-new-9",
        ] {
            for fips in [false, true] {
                let params = Params::builder().region(region).use_fips(fips).build().unwrap();
                let expected = runtime.block_on(DefaultResolver::new().resolve_endpoint(&params)).unwrap();
                assert_eq!(aws_url(region, fips), expected.url(), "{region} fips={fips}");
            }
        }
    }

    #[test]
    fn the_environment_is_read_in_the_sdks_words() {
        let check = |pairs, expected: &str| {
            let endpoint = Endpoints::from_env(&env(pairs)).unwrap().of("eu-west-1").unwrap();
            assert_eq!(endpoint.uri.to_string(), expected);
        };
        check(&[], "https://bedrock-runtime.eu-west-1.amazonaws.com/");
        check(&[("AWS_ENDPOINT_URL", "http://all:1")], "http://all:1/");
        check(
            &[("AWS_ENDPOINT_URL", "http://all:1"), ("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "http://b:2")],
            "http://b:2/",
        );
        check(&[("AWS_ENDPOINT_URL", "http://all:1"), ("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "")], "http://all:1/");
        check(
            &[("AWS_ENDPOINT_URL", "http://all:1"), ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "TRUE")],
            "https://bedrock-runtime.eu-west-1.amazonaws.com/",
        );
        check(&[("AWS_USE_FIPS_ENDPOINT", "true")], "https://bedrock-runtime-fips.eu-west-1.amazonaws.com/");
        assert_eq!(
            Endpoints::from_env(&env(&[("AWS_ENDPOINT_URL", "http://u:secret@h")])),
            Err(Invalid::Url("AWS_ENDPOINT_URL".into()))
        );
    }

    #[test]
    fn a_regions_own_endpoint_comes_before_the_one_for_all() {
        let endpoints =
            Endpoints::default().everywhere("http://all/x/").unwrap().region("eu-west-1", "http://one").unwrap();
        assert_eq!(endpoints.of("eu-west-1").unwrap().uri, "http://one/");
        assert_eq!(endpoints.of("eu-west-2").unwrap().uri, "http://all/x/");
        assert_eq!(endpoints.of("eu-west-2").unwrap().path("m", Operation::Converse).wire, "/x/model/m/converse");
    }

    #[test]
    fn tls_is_needed_unless_every_region_ends_up_at_plain_http() {
        assert!(Endpoints::default().need_tls());
        let plain = Endpoints::default().everywhere("http://h").unwrap();
        assert!(!plain.need_tls());
        assert!(plain.region("eu-west-1", "https://h").unwrap().need_tls());
        assert!(Endpoints::default().region("eu-west-1", "http://h").unwrap().need_tls());
    }

    #[test]
    fn what_is_no_url_of_an_endpoint_is_refused_without_quoting_it() {
        for url in
            ["", "host", "ftp://h", "http://", "http://u:p@h", "http://h?q", "http://h/#f", "http://:80", "/p", "h:80"]
        {
            assert_eq!(base_url(url, "it"), Err(Invalid::Url("it".into())), "{url}");
        }
    }

    #[test]
    fn a_name_that_is_no_region_makes_no_host_name() {
        for region in ["", "evil.com/", "a.b", "US", "-a", "a-", "a b", "a:1", &"a".repeat(64)] {
            assert_eq!(Endpoints::default().of(region).err(), Some(Invalid::Region(region.to_owned())));
        }
    }

    #[test]
    fn the_host_is_named_without_the_default_port() {
        let check = |url: &str, expected: &str| {
            assert_eq!(Endpoints::default().everywhere(url).unwrap().of("r").unwrap().host, expected);
        };
        check("http://h", "h");
        check("http://h:80", "h");
        check("https://h:443", "h");
        check("http://h:443", "h:443");
        check("http://[::1]:8080", "[::1]:8080");
    }

    #[test]
    fn a_model_is_one_segment_of_the_path_and_is_encoded_twice_where_it_is_signed() {
        let endpoint = Endpoints::default().of("us-east-1").unwrap();
        let check = |model, wire: &str, canonical: &str| {
            let path = endpoint.path(model, Operation::ConverseStream);
            assert_eq!(path.wire, format!("/model/{wire}/converse-stream"));
            assert_eq!(path.canonical, format!("/model/{canonical}/converse-stream"));
        };
        check("amazon.nova-lite-v1:0", "amazon.nova-lite-v1%3A0", "amazon.nova-lite-v1%253A0");
        check("arn:aws:x/y", "arn%3Aaws%3Ax%2Fy", "arn%253Aaws%253Ax%252Fy");
        check("a b%?#~_.é", "a%20b%25%3F%23~_.%C3%A9", "a%2520b%2525%253F%2523~_.%25C3%25A9");
    }
}
