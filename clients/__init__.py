"""The client side: what runs beside a sensor, as a Flower ClientApp."""

from pkgutil import extend_path

# A user's folder may hold a package of this name; what is only in that one is found there.
__path__ = extend_path(__path__, __name__)
