//! Where a target's requests may be worked on: the region it is called in, and what its inference profile spans.
//!
//! A geography is AWS's: `eu` is every `eu-` region, London and Zurich among them, because that is what the `eu.` profiles
//! are made of. Japan, Australia and India lie within `apac` too. What does not show its geography (an application
//! inference profile, a prompt router) cannot be shown to keep one, and is refused where one must be kept.

/// The geographies that a policy may name.
pub(super) const RESIDENCIES: [&str; 8] = ["us", "eu", "apac", "jp", "au", "in", "ca", "us-gov"];

/// The regions with a Bedrock runtime, for telling a misspelt one.
pub(super) const REGIONS: [&str; 35] = [
    "af-south-1",
    "ap-east-2",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-south-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "ap-southeast-7",
    "ca-central-1",
    "ca-west-1",
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "mx-central-1",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-gov-east-1",
    "us-gov-west-1",
    "us-west-1",
    "us-west-2",
    "ap-east-1",
];

/// Where a model's requests may be worked on, apart from the region it is called in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Only there.
    Region,
    /// Anywhere in these geographies, by this profile prefix.
    Profile(&'static str),
    /// Not to be seen.
    Hidden,
}

/// The prefixes of inference profiles.
const PREFIXES: [&str; 9] = ["us-gov", "us", "eu", "apac", "jp", "au", "in", "ca", "global"];

/// The kinds of ARN that say, or are, the model that runs in their region.
const REGIONAL_ARNS: [&str; 7] = [
    "foundation-model",
    "provisioned-model",
    "custom-model",
    "custom-model-deployment",
    "imported-model",
    "endpoint",
    "marketplace-model-endpoint",
];

/// Where a model id, profile id or ARN reaches.
pub(super) fn reach(bedrock: &str) -> Reach {
    match arn(bedrock) {
        None => profile(bedrock),
        Some(Arn { kind: "inference-profile", id, .. }) => profile(id),
        Some(Arn { kind, .. }) if REGIONAL_ARNS.contains(&kind) => Reach::Region,
        Some(_) => Reach::Hidden,
    }
}

fn profile(id: &str) -> Reach {
    let prefix = id.split_once('.').and_then(|(first, _)| PREFIXES.into_iter().find(|prefix| *prefix == first));
    prefix.map_or(Reach::Region, Reach::Profile)
}

/// The parts of an ARN that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arn<'a> {
    /// Empty where the ARN names none.
    pub(super) region: &'a str,
    pub(super) kind: &'a str,
    pub(super) id: &'a str,
}

/// `arn:aws:bedrock:REGION:ACCOUNT:KIND/ID`
pub(super) fn arn(bedrock: &str) -> Option<Arn<'_>> {
    let mut parts = bedrock.strip_prefix("arn:")?.splitn(5, ':');
    let region = parts.nth(2).unwrap_or_default();
    let resource = parts.nth(1).unwrap_or_default();
    let (kind, id) = resource.split_once('/').unwrap_or((resource, ""));
    Some(Arn { region, kind, id })
}

/// The geographies that a region lies in.
fn of_region(region: &str) -> &'static [&'static str] {
    match region {
        "ap-northeast-1" | "ap-northeast-3" => &["jp", "apac"],
        "ap-southeast-2" | "ap-southeast-4" => &["au", "apac"],
        "ap-south-1" | "ap-south-2" => &["in", "apac"],
        _ if region.starts_with("ap-") => &["apac"],
        _ if region.starts_with("us-gov-") => &["us-gov"],
        _ if region.starts_with("us-") => &["us"],
        _ if region.starts_with("eu-") => &["eu"],
        _ if region.starts_with("ca-") => &["ca"],
        _ => &[],
    }
}

/// The geographies that all of a profile's regions lie in.
fn of_profile(prefix: &str) -> &'static [&'static str] {
    match prefix {
        "us" => &["us"],
        "us-gov" => &["us-gov"],
        "eu" => &["eu"],
        "ca" => &["ca"],
        "apac" => &["apac"],
        "jp" => &["jp", "apac"],
        "au" => &["au", "apac"],
        "in" => &["in", "apac"],
        _ => &[],
    }
}

/// Whether everything within the geography `inner` is within `outer`.
pub(super) fn within(inner: &str, outer: &str) -> bool {
    of_profile(inner).contains(&outer)
}

/// What is wrong with calling a model in a region where requests may not leave a geography; `None`: nothing.
pub(super) fn leaves(reach: Reach, region: &str, residency: &str) -> Option<String> {
    if !of_region(region).contains(&residency) {
        return Some(format!("it is called in {region}, outside `{residency}`"));
    }
    match reach {
        Reach::Profile(prefix) if !of_profile(prefix).contains(&residency) => {
            Some(format!("its `{prefix}.` profile may work in regions outside `{residency}`"))
        }
        Reach::Hidden => Some(format!(
            "its ARN does not show where it works; only a model id or an inference profile id can be shown to stay in \
             `{residency}`"
        )),
        _ => None,
    }
}

/// Whether AWS offers a profile in a region. `us.` profiles are offered in Canada too.
pub(super) fn offered(reach: Reach, region: &str) -> bool {
    match reach {
        Reach::Profile("global") | Reach::Region | Reach::Hidden => true,
        Reach::Profile("us") => region.starts_with("ca-") || of_region(region).contains(&"us"),
        Reach::Profile(prefix) => of_region(region).contains(&prefix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_stays_where_both_its_region_and_its_profile_lie() {
        #[track_caller]
        fn check(bedrock: &str, region: &str, residency: &str, stays: bool) {
            let leaves = leaves(reach(bedrock), region, residency);
            assert_eq!(leaves.is_none(), stays, "{bedrock} in {region}, {residency}: {leaves:?}");
        }
        let nova = "amazon.nova-lite-v1:0";
        let profile = |prefix: &str| format!("{prefix}.{nova}");
        check(nova, "us-east-1", "us", true);
        check(nova, "us-gov-west-1", "us", false);
        check(nova, "us-gov-west-1", "us-gov", true);
        check(nova, "eu-west-2", "eu", true);
        check(nova, "sa-east-1", "us", false);
        check(nova, "ap-northeast-1", "jp", true);
        check(nova, "ap-northeast-1", "apac", true);
        check(nova, "ap-northeast-2", "jp", false);
        check(nova, "ap-southeast-4", "au", true);
        check(nova, "ap-south-2", "in", true);
        check(nova, "ca-west-1", "ca", true);
        check(&profile("us"), "us-east-1", "us", true);
        check(&profile("us"), "ca-central-1", "ca", false);
        check(&profile("us"), "ca-central-1", "us", false);
        check(&profile("us-gov"), "us-gov-east-1", "us-gov", true);
        check(&profile("apac"), "ap-northeast-1", "jp", false);
        check(&profile("jp"), "ap-northeast-1", "apac", true);
        check(&profile("global"), "us-east-1", "us", false);
        let arn = |kind: &str, id: &str| format!("arn:aws:bedrock:us-east-1:123456789012:{kind}/{id}");
        check(&arn("inference-profile", &profile("us")), "us-east-1", "us", true);
        check(&arn("inference-profile", &profile("global")), "us-east-1", "us", false);
        check(&arn("provisioned-model", "x"), "us-east-1", "us", true);
        check(&arn("application-inference-profile", "x"), "us-east-1", "us", false);
        check(&arn("default-prompt-router", "x"), "us-east-1", "us", false);
        check("arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0", "us-east-1", "us", true);
        check("arn:::::", "us-east-1", "us", false);
    }

    #[test]
    fn geographies_lie_within_each_other() {
        assert!(within("jp", "apac") && within("us", "us"));
        assert!(!within("apac", "jp") && !within("us-gov", "us"));
    }

    #[test]
    fn an_arn_shows_its_region_kind_and_id() {
        let shown = arn("arn:aws:bedrock:eu-west-1:1:inference-profile/eu.a.b-v1:0");
        assert_eq!(shown, Some(Arn { region: "eu-west-1", kind: "inference-profile", id: "eu.a.b-v1:0" }));
        assert_eq!(arn("amazon.nova-lite-v1:0"), None);
        assert_eq!(arn("arn:"), Some(Arn { region: "", kind: "", id: "" }));
    }
}
