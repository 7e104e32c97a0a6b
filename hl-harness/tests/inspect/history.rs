use hl_harness::asic::AsicKind;
use hl_harness::inspect::{SampleOptions, sample};
#[test]
fn look() {
    for asic in [AsicKind::Goya, AsicKind::Gaudi, AsicKind::Gaudi2] {
        let state = sample(SampleOptions {
            asic,
            mappings: 24,
            seed: 1,
        })
        .unwrap();
        let history = state.history();
        println!("{asic} {:?}", history.offences);
        for life in &history.lives {
            println!(
                "{} {} {:x} {} {:?} map {:?} unmap {:?} inv {:?} rel {:?} {} {:?} uses {} faults {}",
                life.asid,
                life.extent.start,
                life.extent.len,
                life.backing,
                life.leaves,
                life.mapped,
                life.unmapped,
                life.invalidated,
                life.released,
                life.stage(),
                life.offences,
                life.used.len(),
                life.faults.len()
            );
        }
    }
}
