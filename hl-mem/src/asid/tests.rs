use super::*;

#[test]
fn numbers_have_ten_bits_and_a_users_is_never_zero() {
    assert_eq!(Asid::new(1023).map(Asid::get), Some(1023));
    assert_eq!(Asid::new(1024), None);
    assert_eq!(UserAsid::new(0), None);
    assert_eq!(UserAsid::new(1024), None);
    let user = UserAsid::new(1023).unwrap();
    assert_eq!(Asid::from(user).get(), 1023);
    assert_eq!(InitiatorMode::User(user).asid(), Some(user.into()));
    assert_eq!(InitiatorMode::Privileged.asid(), Some(Asid::PRIVILEGED));
    assert_eq!(InitiatorMode::Bypass.asid(), None);
}
