//! For every test program here: generic functions as tests, one for each ASIC.

/// Runs a generic function on each ASIC, as a test of its own.
macro_rules! on_each_asic {
    ($($name:ident),* $(,)?) => {
        $(
            mod $name {
                #[test]
                fn on_goya() {
                    super::$name::<hl_mem::profile::Goya>();
                }
                #[test]
                fn on_gaudi() {
                    super::$name::<hl_mem::profile::Gaudi>();
                }
                #[test]
                fn on_gaudi2() {
                    super::$name::<hl_mem::profile::Gaudi2<6>>();
                }
            }
        )*
    };
}
pub(crate) use on_each_asic;
