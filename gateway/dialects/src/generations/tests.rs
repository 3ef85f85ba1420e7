use super::*;
use crate::vendors;

fn of(vendor: &str, model: &str) -> &'static Generation {
    Generation::of(vendors::find(vendor).unwrap(), model)
}

#[test]
fn every_row_is_dated_and_found_by_its_own_names() {
    for vendor in vendors::all() {
        for row in vendor.generations {
            assert!(row.source.starts_with("https://"), "{row:?}");
            let rules = row.reasoning;
            let has_none = rules.efforts.contains(crate::neutral::Effort::None);
            if rules.control == ReasoningControl::Effort {
                assert_eq!(has_none, rules.off == ReasoningOff::Switch, "{row:?}");
            }
            assert!(row.date.parse::<jiff::civil::Date>().is_ok(), "{row:?}");
            for name in row.names.iter().filter(|_| row.matches == Match::Known) {
                assert_eq!(of(vendor.name, name), row, "{} {name}", vendor.name);
            }
        }
        let last = vendor.generations.last().unwrap();
        assert_eq!(last.names, [""], "{}: a name that no row fits", vendor.name);
    }
}
