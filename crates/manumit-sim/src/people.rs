//! Customers and accounts of the simulated bank.

use chrono::{NaiveDate, TimeDelta};

use crate::calendar::Calendar;
use crate::draw::Draw;
use crate::populations::belong;

/// Where something happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Place {
    pub city: &'static str,
    /// ISO 3166-1 alpha-2.
    pub country: &'static str,
    /// Degrees.
    pub latitude: f64,
    /// Degrees.
    pub longitude: f64,
}

/// A place in one of [`CITIES`], or after them in one of [`ROUTE`].
pub(crate) fn home(city: usize) -> Option<Place> {
    let known = CITIES.get(city).map(|&(city, latitude, longitude, _)| (city, latitude, longitude));
    let (city, latitude, longitude) =
        known.or_else(|| ROUTE.get(city.checked_sub(CITIES.len())?).copied())?;
    Some(Place { city, country: "DE", latitude, longitude })
}

/// Name, latitude and longitude (degrees), share of the population in per cent.
pub(crate) const CITIES: [(&str, f64, f64, u32); 10] = [
    ("Berlin", 52.52, 13.405, 26),
    ("Hamburg", 53.5511, 9.9937, 14),
    ("München", 48.1374, 11.5755, 13),
    ("Köln", 50.9375, 6.9603, 11),
    ("Frankfurt am Main", 50.1109, 8.6821, 9),
    ("Stuttgart", 48.7758, 9.1829, 8),
    ("Leipzig", 51.3397, 12.3731, 6),
    ("Bremen", 53.0793, 8.8017, 5),
    ("Nürnberg", 49.4521, 11.0767, 4),
    ("Dresden", 51.0504, 13.7373, 4),
];

/// Places on a route of smugglers, two a stage, the last two at a border: names of the sample lists `route-stage-1` to
/// `-3` and `border-zone-cities`, latitude and longitude (degrees) invented. Only who is planted lives there.
pub(crate) const ROUTE: [(&str, f64, f64); 6] = [
    ("Sample Harbour", 54.4, 18.6),
    ("Sample Plains", 53.1, 17.2),
    ("Sample Junction", 52.2, 16.1),
    ("Sample Pass", 51.4, 15.8),
    ("Sample Crossing", 51.2, 15.0),
    ("Sample Bridge", 50.6, 14.9),
];

const GIVEN: [&str; 24] = [
    "Anna",
    "Peter",
    "Sabine",
    "Thomas",
    "Julia",
    "Michael",
    "Laura",
    "Stefan",
    "Lena",
    "Andreas",
    "Marie",
    "Christian",
    "Ioana",
    "Andrei",
    "Piotr",
    "Ewa",
    "Ayse",
    "Murat",
    "Linh",
    "Minh",
    "Omar",
    "Layla",
    "Maricel",
    "Ramon",
];
const SURNAMES: [&str; 30] = [
    "Müller",
    "Schmidt",
    "Schneider",
    "Fischer",
    "Weber",
    "Meyer",
    "Wagner",
    "Becker",
    "Schulz",
    "Hoffmann",
    "Koch",
    "Bauer",
    "Richter",
    "Klein",
    "Wolf",
    "Neumann",
    "Braun",
    "Krüger",
    "Hartmann",
    "Lange",
    "Popescu",
    "Ionescu",
    "Nowak",
    "Kowalski",
    "Yilmaz",
    "Kaya",
    "Nguyen",
    "Tran",
    "Haddad",
    "Santos",
];
const OCCUPATIONS: [&str; 12] = [
    "clerk",
    "nurse",
    "teacher",
    "engineer",
    "shop assistant",
    "cook",
    "cleaner",
    "builder",
    "lorry driver",
    "sales representative",
    "musician",
    "programmer",
];
/// Ending of a firm's name, and its industry.
const FIRMS: [(&str, &str); 4] = [
    ("Bau GmbH", "construction"),
    ("Service GmbH", "services"),
    ("Markt", "retail"),
    ("Gastro", "restaurant"),
];
const STREETS: [&str; 10] = [
    "Lindenweg",
    "Hauptstr.",
    "Gartenstr.",
    "Bahnhofstr.",
    "Schulstr.",
    "Bergweg",
    "Birkenallee",
    "Am Markt",
    "Ringstr.",
    "Uferstr.",
];

/// A holder of an account.
#[derive(Debug, Clone)]
pub struct Customer {
    /// Customer id.
    pub customer: String,
    /// Account id.
    pub account: String,
    /// Name as sent with payments.
    pub name: String,
    /// Surname; empty for a business.
    pub surname: String,
    /// A business, not a person.
    pub business: bool,
    /// A registered charity or club.
    pub npo: bool,
    /// A registered money service.
    pub msb: bool,
    /// A licensed provider of labour.
    pub labour_licence: bool,
    /// Day of birth; none for a business.
    pub born_on: Option<NaiveDate>,
    /// Occupation; empty for a business.
    pub occupation: &'static str,
    /// Industry of a business; empty for a person.
    pub industry: &'static str,
    /// Employer, as the customer declared; mostly unknown.
    pub employer: String,
    /// Income a year in cents, as the customer declared; 0 when unknown.
    pub declared_income: i64,
    /// ISO 3166-1 alpha-2.
    pub nationality: &'static str,
    /// ISO 3166-1 alpha-2.
    pub born_in: &'static str,
    /// Household id.
    pub household: String,
    /// Street and number.
    pub address: String,
    /// Phone number.
    pub phone: String,
    /// The device that orders come from.
    pub(crate) device: String,
    /// Index of the home city, as [`home`] takes it.
    pub(crate) city: usize,
    /// Product of the account, such as `current`.
    pub(crate) product: &'static str,
    /// Day on which the account was opened.
    pub opened_on: NaiveDate,
    /// What it belongs to among ordinary customers; empty for the crowd.
    pub(crate) population: &'static str,
    /// Leads an ordinary life on the account, whatever is planted beside.
    pub(crate) lives: bool,
}

impl Customer {
    /// Home city.
    pub fn city_name(&self) -> &'static str {
        home(self.city).map_or("", |place| place.city)
    }

    /// Home coordinates, degrees.
    pub fn home(&self) -> (f64, f64) {
        home(self.city).map_or((0.0, 0.0), |place| (place.latitude, place.longitude))
    }

    /// Younger than 18 on this day.
    pub(crate) fn minor_on(&self, day: NaiveDate) -> bool {
        self.born_on.and_then(|born| day.years_since(born)).is_some_and(|years| years < 18)
    }
}

/// Draws the bank's customers; every twelfth is a business.
pub(crate) fn customers(seed: u64, count: u32, calendar: &Calendar) -> Vec<Customer> {
    let mut draw = Draw::new(seed, 1);
    let person = |number: u32| {
        let mut person = customer(&mut draw, number, number % 12 == 11, calendar);
        belong(seed, number, &mut person, calendar);
        person
    };
    (0..count).map(person).collect()
}

/// One more customer.
pub(crate) fn customer(draw: &mut Draw, number: u32, business: bool, calendar: &Calendar) -> Customer {
    let surname = SURNAMES[draw.index(SURNAMES.len())];
    let (name, industry) = if business {
        let (kind, industry) = FIRMS[draw.index(FIRMS.len())];
        (format!("{surname} {kind}"), industry)
    } else {
        (format!("{} {surname}", GIVEN[draw.index(GIVEN.len())]), "")
    };
    let mut left = draw.int(0, 99) as u32;
    let mut city = 0;
    for (index, (_, _, _, share)) in CITIES.iter().enumerate() {
        if left < *share {
            city = index;
            break;
        }
        left -= share;
    }
    let first = calendar.date(0);
    let household = number / 2;
    Customer {
        customer: format!("C{number:06}"),
        account: format!("MANU{number:06}"),
        name,
        surname: if business { String::new() } else { surname.to_string() },
        business,
        npo: false,
        msb: false,
        labour_licence: false,
        born_on: (!business).then(|| first - TimeDelta::days(draw.int(16 * 365, 80 * 365))),
        occupation: if business { "" } else { OCCUPATIONS[draw.index(OCCUPATIONS.len())] },
        industry,
        employer: String::new(),
        declared_income: 0,
        nationality: "DE",
        born_in: "DE",
        household: format!("H{household:06}"),
        address: format!("{} {}", STREETS[household as usize % STREETS.len()], household / 10 + 1),
        phone: format!("+4930{number:07}"),
        device: format!("DV{number:06}"),
        city,
        product: if business { "business" } else { "current" },
        opened_on: first - TimeDelta::days(draw.int(200, 4000)),
        population: "",
        lives: true,
    }
}
