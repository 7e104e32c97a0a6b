//! For test programs that map device memory: generic functions as tests, one for each ASIC that does.

/// Runs a generic function on each ASIC that maps device memory, as a test of its own.
macro_rules! on_each_asic_with_mapped_dram {
    ($($name:ident),* $(,)?) => {
        $(
            mod $name {
                #[test]
                fn on_goya() {
                    super::$name::<hl_mem::profile::Goya>();
                }
                #[test]
                fn on_gaudi2_with_six_stacks() {
                    super::$name::<hl_mem::profile::Gaudi2<6>>();
                }
                #[test]
                fn on_gaudi2_with_five_stacks() {
                    super::$name::<hl_mem::profile::Gaudi2<5>>();
                }
            }
        )*
    };
}
pub(crate) use on_each_asic_with_mapped_dram;
