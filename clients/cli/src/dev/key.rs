//! The one key that `dev` makes: for the policy's first caller, so that there is something to try at once.

use std::time::SystemTime;

use switchtower_control_plane::{keys::Act, start::Running};
use switchtower_keys::{IssuedKey, Peppers, known_key, new_key, random};

use super::place::Place;
use crate::output::{Exit, Failure};

/// The key, and whose it is.
pub(super) struct DevKey {
    /// Its secrets.
    pub(super) issued: IssuedKey,
    /// The caller that it speaks for.
    pub(super) caller: String,
}

/// The key of this caller: the given one, else the one that was made in this place before, else a new one. The control plane
/// has it when this returns.
pub(super) async fn of(
    caller: &str,
    environment: &str,
    given: Option<&str>,
    place: &Place,
    plane: &Running,
) -> Result<DevKey, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::Failed, format!("the key of `dev`: {error}"));
    let now = SystemTime::now();
    let (record, issued) = match given.map(str::to_owned).or_else(|| place.key()) {
        Some(bearer) => known(&bearer, caller, &place.peppers, now)?,
        None => {
            let bytes = random().map_err(|error| failed(&error))?;
            new_key(caller, &place.peppers.current, now, None, &bytes).map_err(|error| failed(&error))?
        }
    };
    let act = Act { author: "dev", now, random: fastrand::u32(..) };
    let adopted = plane.keys.adopt(environment, record, act).await.map_err(|error| failed(&error))?;
    if let Some(event) = &adopted.event {
        plane.events.tell(event);
    }
    place.keep_key(&issued.bearer)?;
    Ok(DevKey { issued, caller: adopted.key.record.caller })
}

/// Whether a given key is one, before anything is started for it.
pub(super) fn check(given: Option<&str>, peppers: &Peppers) -> Result<(), Failure> {
    given.map_or(Ok(()), |given| known(given, "nobody", peppers, SystemTime::now()).map(drop))
}

fn known(
    bearer: &str,
    caller: &str,
    peppers: &Peppers,
    now: SystemTime,
) -> Result<(switchtower_keys::Record, IssuedKey), Failure> {
    known_key(bearer, caller, &peppers.current, now, None).map_err(|invalid| {
        Failure::usage(format!("--api-key: {invalid}"))
            .next("leave it out for a new one, or make one: `switchtower key new --file keys.yaml --caller NAME`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "swt_ABCDEFGHIJKLMNOP_ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

    #[test]
    fn what_is_no_key_is_refused_and_not_repeated() {
        let place = Place::of(None).unwrap();
        assert!(check(None, &place.peppers).is_ok() && check(Some(KEY), &place.peppers).is_ok());
        for given in ["", "secret", &KEY[..KEY.len() - 1], &KEY.replace('Z', "!")] {
            let failure = check(Some(given), &place.peppers).err().unwrap();
            assert_eq!(failure.exit, Exit::Usage, "{given}");
            assert!(given.is_empty() || !failure.to_string().contains(given), "{failure}");
        }
    }
}
