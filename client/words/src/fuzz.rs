//! Quantities, names of images and schedules as anybody may write them.

use afloat_fuzz::damaged_text;
use proptest::prelude::*;

use crate::image::ImageName;
use crate::quantity::{Quantity, canonical, rounded, same};
use crate::schedule::{Schedule, zone};

fn quantities() -> impl Strategy<Value = String> {
    damaged_text(&[
        "100m",
        "1.5Gi",
        "2e3",
        "-0.1n",
        "+9E",
        "123456789012345678901234567890",
        "1E-18",
        "0.000000001Ki",
    ])
}

proptest! {
    #[test]
    fn schedules_are_read_or_refused(
        text in damaged_text(&["*/5 1-3,7 ? jan-MAR sun", "@every 1h30m10.5s", "@daily", "TZ=Europe/Berlin 0 2 31 12 *", "59/1 23 * * 6"]),
        from in -62_000_000_000_i64..253_000_000_000,
    ) {
        let (from, berlin) = (jiff::Timestamp::from_second(from).unwrap(), zone("Europe/Berlin").unwrap());
        if let Some(next) = Schedule::parse(&text).ok().and_then(|schedule| schedule.next(from, &berlin)) {
            prop_assert!(next > from, "{text}");
        }
    }

    #[test]
    fn quantities_are_read_or_refused(a in quantities(), b in quantities()) {
        let _ = (canonical(&a), rounded(&a));
        if let (Ok(one), Ok(other)) = (a.parse::<Quantity>(), b.parse::<Quantity>()) {
            prop_assert_eq!(one.cmp(&other), one.nano().cmp(&other.nano()));
            prop_assert_eq!(same(&a, &b), one == other);
            let _ = (one.divided_by(other), one.checked_add(other), one.checked_sub(other));
            prop_assert_eq!(one.to_string().parse::<Quantity>(), Ok(one));
        }
    }

    #[test]
    fn quantities_round_away_from_zero(text in quantities()) {
        if let Ok(quantity) = text.parse::<Quantity>() {
            for (rounded, unit) in [(quantity.milli(), 1_000_000), (quantity.value(), 1_000_000_000)] {
                let beyond = rounded == i64::MAX || rounded == i64::MIN;
                let (rounded, exact) = (i128::from(rounded).abs() * unit, quantity.nano().abs());
                prop_assert!(beyond || rounded - unit < exact && exact <= rounded, "{text}: {rounded} for {exact}");
            }
        }
    }

    #[test]
    fn names_are_taken_apart(text in damaged_text(&[
        "web", "web:v1", "localhost:5000/team/web:1.0-rc_1", "index.docker.io/web", "[::1]:5000/a",
        "ghcr.io/a/b:v1@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ])) {
        let name = ImageName::of(&text);
        let _ = (name.registry(), name.repository(), name.without_version(), name.familiar(), name.is_latest(), name.meaning());
        if ImageName::parse(&text).is_ok() {
            let full = name.to_string();
            prop_assert_eq!(ImageName::parse(&full).map(|name| name.to_string()), Ok(full));
        }
    }
}
