//! What objects may say: quantities and names of images.

use proptest::prelude::*;

use crate::image::ImageName;
use crate::quantity::Quantity;

proptest! {
    #[test]
    fn quantities_round_away_from_zero(text in afloat_fuzz::damaged_text(&[
        "100m", "1.5Gi", "2e3", "-0.1n", "+9E", "123456789012345678901234567890", "1E-18", "0.000000001Ki",
    ])) {
        if let Ok(quantity) = text.parse::<Quantity>() {
            let nano = quantity.nano();
            for (rounded, unit) in [(quantity.milli(), 1_000_000), (quantity.value(), 1_000_000_000)] {
                let beyond = rounded == i64::MAX || rounded == i64::MIN;
                let (rounded, exact) = (i128::from(rounded).abs() * unit, nano.abs());
                prop_assert!(beyond || rounded - unit < exact && exact <= rounded, "{text}: {rounded} for {exact}");
            }
        }
    }

    #[test]
    fn names_of_images_mean_one_thing(text in afloat_fuzz::damaged_text(&[
        "web", "web:v1", "user/web", "localhost:5000/a/b:1", "docker.io/library/web@sha256:00", "[::1]:5000/a", "index.docker.io/a",
    ])) {
        if let Ok(name) = ImageName::parse(&text) {
            let full = name.to_string();
            let again = ImageName::parse(&full);
            prop_assert!(again.is_ok(), "{text:?} became {full:?}");
            prop_assert_eq!(again.unwrap().to_string(), full);
        }
        let _ = ImageName::of(&text).familiar();
    }
}
