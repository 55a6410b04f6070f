"""The client side: what runs beside a sensor, as a Flower ClientApp."""
