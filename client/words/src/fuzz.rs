//! What objects may say: quantities and names of images.

use proptest::prelude::*;

use crate::image::ImageName;
use crate::quantity::Quantity;

proptest! {
    #[test]
    fn quantities_round_up(text in afloat_fuzz::damaged_text(&[
        "100m", "1.5Gi", "2e3", "-0.1n", "+9E", "123456789012345678901234567890", "1E-18", "0.000000001Ki",
    ])) {
        if let Ok(quantity) = text.parse::<Quantity>() {
            let (nano, milli, whole) = (quantity.nano(), i128::from(quantity.milli()), i128::from(quantity.value()));
            let beyond = |number: i128| number == i128::from(i64::MAX) || number == i128::from(i64::MIN);
            prop_assert!(beyond(milli) || (milli - 1) * 1_000_000 < nano && nano <= milli * 1_000_000);
            prop_assert!(beyond(whole) || (whole - 1) * 1_000_000_000 < nano && nano <= whole * 1_000_000_000);
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
