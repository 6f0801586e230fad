"""Driving against a naive car in float64 that knows the track by angle, and a dense march along rays."""

import math

import numpy as np
import pytest
import torch

from funcrl import envs
from funcrl.core import jit, random, tree
from funcrl.envs.driving import Car, Driving
from tests.envs import own
from tests.envs.classic import assert_stays_on_its_device, assert_uniform

KEY = random.key(0)
ENV = Driving()
OTHER = Driving(
    mean_radius=30.0,
    second_harmonic=-0.2,
    third_harmonic=0.1,
    half_width=3.0,
    max_acceleration=7.0,
    max_braking=12.0,
    drag=0.02,
    max_speed=20.0,
    max_steering=0.8,
    wheelbase=2.0,
    grip=5.0,
    sensor_range=25.0,
    field_of_view=2.0,
    progress_reward=0.3,
    off_road_penalty=4.0,
    time_step=0.2,
    num_rays=6,
    num_samples=20,
)


def center_line(env, angle):
    """Return the radius of the centre line and its derivative by central differences."""
    radius = lambda a: (
        env.mean_radius * (1 + env.second_harmonic * np.cos(2 * a) + env.third_harmonic * np.cos(3 * a))
    )
    return radius(angle), (radius(angle + 1e-5) - radius(angle - 1e-5)) / 2e-5


def naive_excess(env, x, y):
    radius, derivative = center_line(env, np.arctan2(y, x))
    return abs(np.hypot(x, y) - radius) / np.hypot(1, derivative / radius) - env.half_width


def naive_transition(env, x, y, heading, speed, progress, action):
    steering = min(max(action[0], -1), 1) * env.max_steering
    throttle, brake = (min(max(pedal, 0), 1) for pedal in action[1:])
    acceleration = throttle * env.max_acceleration - brake * env.max_braking - env.drag * speed * speed
    speed = min(max(speed + env.time_step * acceleration, 0), env.max_speed)
    yaw_rate = speed * math.tan(steering) / env.wheelbase
    if speed > 0:
        yaw_rate = min(max(yaw_rate, -env.grip / speed), env.grip / speed)
    middle = heading + 0.5 * env.time_step * yaw_rate
    to = (x + env.time_step * speed * math.cos(middle), y + env.time_step * speed * math.sin(middle))
    change = math.atan2(to[1], to[0]) - math.atan2(y, x)
    change = (change + math.pi) % (2 * math.pi) - math.pi
    return (*to, heading + env.time_step * yaw_rate, speed, progress + env.mean_radius * change)


def random_cars(env, count, seed=0, inside=1.3):
    """Return cars on and a little off the road, `[count]` each, with any heading and speed."""
    generator = np.random.default_rng(seed)
    angle = generator.uniform(-np.pi, np.pi, count)
    radius, derivative = center_line(env, angle)
    side = generator.uniform(-inside, inside, count) * env.half_width
    distance = radius + side * np.hypot(1, derivative / radius)
    along = np.arctan2(
        derivative * np.sin(angle) + radius * np.cos(angle),
        derivative * np.cos(angle) - radius * np.sin(angle),
    )
    heading = along + np.where(
        generator.random(count) < 0.5, generator.normal(0, 0.4, count), generator.uniform(-4, 4, count)
    )
    speed = generator.uniform(0, env.max_speed, count) * (generator.random(count) < 0.9)
    columns = (
        distance * np.cos(angle),
        distance * np.sin(angle),
        heading,
        speed,
        generator.normal(0, 300, count),
    )
    return Car(*(torch.from_numpy(column.astype(np.float32)) for column in columns))


def random_actions(*shape, seed=0, throttle=0.0):
    generator = np.random.default_rng(seed)
    drawn = generator.uniform([-1.3, -0.3 + throttle, -0.6], [1.3, 1.3, 1.3 - throttle], (*shape, 3))
    return torch.from_numpy(drawn.astype(np.float32))


def columns(cars):
    return np.stack([leaf.double().numpy() for leaf in tree.leaves(cars)], axis=1)


def test_spaces():
    env = envs.make("Driving-v0")
    assert isinstance(env, Driving)
    assert env.observation_space.shape == (10,)
    assert env.action_space.low.tolist() == [-1, 0, 0]
    assert env.action_space.high.tolist() == [1, 1, 1]
    assert env.max_episode_steps == 500
    assert Driving(num_rays=5).observation_space.shape == (6,)


@pytest.mark.parametrize("env", [ENV, OTHER], ids=["default", "other"])
def test_ten_thousand_transitions_are_those_of_a_naive_car(env):
    cars, taken = random_cars(env, 10_000), random_actions(10_000)
    following = torch.vmap(lambda car, action: env.transition(car, action, KEY))(cars, taken)
    expected = [
        naive_transition(env, *row) for row in zip(*columns(cars).T, taken.double().numpy(), strict=True)
    ]
    np.testing.assert_allclose(columns(following), expected, atol=2e-4)
    rewards = torch.vmap(lambda a, b, c: env.reward(a, b, c, KEY))(cars, taken, following)
    over = torch.vmap(lambda car: env.terminal(car, KEY))(following)
    x, y, _, _, progress = np.array(expected).T
    excess = naive_excess(env, x, y)
    clear = abs(excess) > 1e-3
    assert clear.mean() > 0.99
    assert ((excess > 0) == over.numpy())[clear].all()
    assert 0.05 < over.float().mean() < 0.6
    paid = env.progress_reward * (progress - columns(cars)[:, 4]) - env.off_road_penalty * (excess > 0)
    np.testing.assert_allclose(rewards.numpy()[clear], paid[clear], atol=1e-4)


def test_a_walk_of_five_thousand_steps_is_that_of_a_naive_car():
    """Without putting the state back until an episode ends."""
    taken = random_actions(60, 84, throttle=0.5)
    states, rows = own.rollout(ENV, taken)
    cars = np.stack([columns(tree.index(states.inner, (slice(None), lane))) for lane in range(84)], axis=1)
    followed = 0
    for lane in range(84):
        car = cars[0, lane]
        for t in range(59):
            car = naive_transition(ENV, *car, taken[t, lane].double().numpy())
            if rows.terminated[t, lane] or rows.truncated[t, lane]:
                car = cars[t + 1, lane]
            else:
                np.testing.assert_allclose(cars[t + 1, lane], car, atol=5e-3)
                followed += 1
    assert followed > 4000
    assert rows.terminated.any()


def naive_rays(env, cars, samples):
    """Return the first of so many samples of each ray that is off the road, as a fraction of the range."""
    x, y, heading, *_ = columns(cars)[:, :, None, None].transpose(1, 0, 2, 3)
    angles = np.linspace(-0.5, 0.5, env.num_rays)[:, None] * env.field_of_view
    reach = env.sensor_range * np.linspace(0, 1, samples + 1)
    off = naive_excess(env, x + reach * np.cos(heading + angles), y + reach * np.sin(heading + angles)) >= 0
    return np.where(off.any(axis=-1), off.argmax(axis=-1) / samples, 1.0)


@pytest.mark.parametrize("env", [ENV, OTHER], ids=["default", "other"])
def test_rays_end_where_a_naive_march_leaves_the_road(env):
    cars = random_cars(env, 800, inside=1.1)
    obs = torch.vmap(lambda car: env.observation(car, KEY))(cars).numpy()
    assert obs.dtype == np.float32
    assert obs.shape == (800, env.num_rays + 1)
    assert obs.min() >= 0
    assert obs.max() <= 1
    np.testing.assert_allclose(obs[:, -1], cars.speed.numpy() / env.max_speed, atol=1e-6)
    # At the same samples: the reading lies between the last on the road and the first off it.
    first = naive_rays(env, cars, env.num_samples)
    agree = (obs[:, :-1] <= first + 1e-4) & (obs[:, :-1] >= first - 1 / env.num_samples - 1e-4)
    assert agree.mean() > 0.999
    # At 30 times as many samples: the interpolated reading is where the edge is, save for what is
    # thinner than the distance of samples.
    some = tree.index(cars, slice(200))
    metres = env.sensor_range * abs(obs[:200, :-1] - naive_rays(env, some, 30 * env.num_samples))
    assert np.median(metres) < 0.05
    assert (metres < 0.25).mean() > 0.98


def test_rays_begin_at_the_right_and_a_car_off_the_road_sees_nothing():
    straight = Driving(second_harmonic=0.0, third_harmonic=0.0)
    at = lambda x: Car(*(torch.tensor(value) for value in (x, 0.0, math.pi / 2, 0.0, 0.0)))
    obs = straight.observation(at(52.0), KEY)
    assert float(obs[0]) * 40 == pytest.approx(2.0, abs=0.01)
    assert float(obs[8]) * 40 == pytest.approx(6.0, abs=0.01)
    # Pythagoras: straight on to the outer edge, of radius 54.
    assert float(obs[4]) * 40 == pytest.approx(math.sqrt(54**2 - 52**2), abs=0.05)
    assert straight.observation(at(54.1), KEY)[:9].tolist() == [0.0] * 9


@pytest.mark.parametrize("env", [ENV, OTHER], ids=["default", "other"])
def test_the_road_ends_exactly_at_its_edges(env):
    angle = np.linspace(-np.pi, np.pi, 2000)
    radius, derivative = center_line(env, angle)
    for side in (-1, 1):
        for width, over in [(0.999, False), (1.001, True)]:
            distance = radius + side * width * env.half_width * np.hypot(1, derivative / radius)
            place = [torch.from_numpy((distance * f(angle)).astype(np.float32)) for f in (np.cos, np.sin)]
            found = torch.vmap(lambda x, y: env.terminal(Car(x, y, x, x, x), KEY))(*place)
            assert (found == over).all()


def test_the_road_is_about_as_wide_as_it_says():
    angle = np.linspace(-np.pi, np.pi, 5001)
    radius, derivative = center_line(ENV, angle)
    line = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    for side in (-4.0, 4.0):
        distance = (radius + side * np.hypot(1, derivative / radius))[::10]
        edge = np.stack([distance * np.cos(angle[::10]), distance * np.sin(angle[::10])], axis=1)
        nearest = np.sqrt(((edge[:, None] - line[None]) ** 2).sum(axis=-1)).min(axis=1)
        assert nearest.min() > 3.4
        assert nearest.max() < 4.4


def drive(env, policy, num_steps, num_envs=1, seed=0):
    """Return cars before each step and time steps, `[T, N]`, for a policy of observations."""
    states = torch.vmap(lambda key: envs.reset(env, key))(random.split(random.key(seed), num_envs))

    def step(state, key):
        return envs.step(env, state, policy(state.obs), key)

    # Recorded once: a lap is hundreds of steps.
    program = jit.jit(torch.vmap(step), backend="aot_eager")
    states = tree.map(torch.Tensor.contiguous, states)
    before, rows = [], []
    for key in random.split(random.key(seed + 1), num_steps):
        before.append(states.inner)
        states, row = program(states, random.split(key, num_envs))
        rows.append(row)
    return tree.stack(before), tree.stack(rows)


def test_the_scripted_driver_earns_the_documented_return_and_full_throttle_does_not():
    cars, rows = drive(ENV, ENV.scripted_action, 500, 10)
    assert not rows.terminated.any()
    assert rows.truncated[-1].all()
    assert not rows.truncated[:-1].any()
    returns = rows.episode_return[-1]
    assert float(returns.mean()) == pytest.approx(73.1, abs=0.4)
    assert float(returns.std()) < 0.5
    # Progress is the angle around the origin: a lap is 2π · 50 m.
    laps = cars.progress / (2 * math.pi * 50)
    around = torch.atan2(cars.y, cars.x) / (2 * math.pi)
    assert float(((laps - around + 0.5) % 1 - 0.5).abs().max()) < 1e-4
    assert float(laps[-1].min()) > 2.3
    assert torch.allclose(rows.episode_return[-2], 0.1 * cars.progress[-1], atol=1e-3)
    pedals_only = lambda obs: ENV.scripted_action(obs) * torch.tensor([1.0, 1.0, 0.0])
    cars, rows = drive(ENV, pedals_only, 100, 20)
    assert rows.terminated.any(dim=0).all()
    assert float(cars.progress.max()) < math.pi * 50


def test_a_lap_of_a_round_track_at_constant_steering_is_its_length():
    env = Driving(second_harmonic=0.0, third_harmonic=0.0, initial_offset=0.0, initial_angle=0.0)
    steering = math.atan(2.5 / 50) / 0.5
    cars, rows = drive(
        env, lambda obs: torch.stack([0 * obs[0] + steering, 0 * obs[0] + 0.2, 0 * obs[0]]), 300
    )
    assert not rows.terminated.any()
    turned = (cars.heading - math.pi / 2)[:, 0]
    lap = int((turned - 2 * math.pi).abs().argmin())
    assert float(cars.progress[lap, 0] - 50 * (turned[lap] - 2 * math.pi)) == pytest.approx(
        2 * math.pi * 50, abs=0.05
    )
    assert float(torch.hypot(cars.x, cars.y).sub(50).abs().max()) < 0.05
    # The other way round, progress is negative.
    turned_round = tree.replace(tree.index(cars, (lap, 0)), heading=torch.tensor(-math.pi / 2))
    following = env.transition(turned_round, torch.tensor([-steering, 0.5, 0.0]), KEY)
    assert float(env.reward(turned_round, torch.zeros(3), following, KEY)) < -0.1


def test_leaving_the_road_costs_the_penalty_once_and_ends_the_episode():
    for penalty in (0.0, 25.0):
        env = Driving(off_road_penalty=penalty, initial_angle=0.0)
        _, rows = drive(env, lambda obs: torch.stack([0 * obs[0], 0 * obs[0] + 1, 0 * obs[0]]), 100, 20)
        assert rows.terminated.any(dim=0).all()
        end = rows.terminated.float().argmax(dim=0)
        lanes = torch.arange(20)
        without = rows.episode_return[end - 1, lanes]
        assert (without > 0).all()
        gained = rows.episode_return[end, lanes] - without + penalty
        assert (gained > 0).all()
        assert (gained < 0.3).all()


def test_the_tyres_hold_only_so_much():
    cars = tree.replace(random_cars(ENV, 2000), speed=torch.linspace(0, 30, 2000))
    full = torch.tensor([1.0, 0.0, 0.0])
    following = torch.vmap(lambda car: ENV.transition(car, full, KEY))(cars)
    yaw_rate = (following.heading - cars.heading) / 0.1
    sideways = yaw_rate * following.speed
    assert float(sideways.max()) == pytest.approx(8.0, rel=1e-2)
    slow = following.speed < 6.0
    assert torch.allclose(yaw_rate[slow], following.speed[slow] * math.tan(0.5) / 2.5, atol=1e-3)


def test_a_car_stops_but_does_not_drive_backwards_and_keeps_to_its_top_speed():
    state = ENV.initial(KEY)
    fast = tree.replace(state, speed=torch.tensor(29.9))
    assert (
        float(Driving(max_acceleration=50.0).transition(fast, torch.tensor([0.0, 1.0, 0.0]), KEY).speed)
        == 30.0
    )
    stopped = ENV.transition(tree.replace(state, speed=torch.tensor(0.3)), torch.tensor([0.0, 0.0, 1.0]), KEY)
    assert float(stopped.speed) == 0.0
    assert float(stopped.x) == float(state.x)
    assert float(stopped.heading) == float(state.heading)


def test_actions_beyond_their_space_are_clipped():
    car = tree.index(random_cars(ENV, 1), 0)
    for beyond, nearest in [([9.0, 7.0, 0.0], [1.0, 1.0, 0.0]), ([-9.0, -7.0, 5.0], [-1.0, 0.0, 1.0])]:
        outcomes = [ENV.transition(car, torch.tensor(action), KEY) for action in (beyond, nearest)]
        assert columns(tree.stack(outcomes))[0].tolist() == columns(tree.stack(outcomes))[1].tolist()


def test_beginnings_are_uniform_about_the_middle_of_the_road():
    env = Driving(initial_offset=2.0, initial_angle=0.3)
    cars = torch.vmap(env.initial)(random.split(KEY, 5000))
    assert_uniform(cars.x, 50 * 1.35 - 2.0, 50 * 1.35 + 2.0)
    assert_uniform(cars.heading, math.pi / 2 - 0.3, math.pi / 2 + 0.3)
    assert abs(np.corrcoef(cars.x.numpy(), cars.heading.numpy())[0, 1]) < 0.05
    for leaf in (cars.y, cars.speed, cars.progress):
        assert (leaf == 0).all()
    assert not torch.vmap(lambda car: env.terminal(car, KEY))(cars).any()


def test_every_number_can_differ_between_lanes():
    env = Driving(half_width=1.2, initial_offset=0.5, num_rays=5)
    others = {path[1:]: number * 0.8 for path, number in tree.named_leaves(env).items()}
    own.assert_every_number_can_differ_between_lanes(
        env, random_actions(20, 8, throttle=0.6), others | {"max_speed": 4.0, "grip": 0.5}
    )


def test_compiled_equals_eager_and_stays_on_the_device():
    own.assert_compiled_equals_eager(ENV, random_actions(30, 30, throttle=0.6))
    assert_stays_on_its_device(ENV, np.array([0.1, 1.0, 0.0], np.float32))


def test_pictures():
    cars = random_cars(ENV, 4, inside=0.8)
    own.assert_pictures(ENV, [tree.index(cars, lane) for lane in range(4)])


def test_the_car_is_drawn_where_it_is():
    # To the right and downwards, in pixels of the picture, from a car at the origin.
    middles = []
    for x, y in [(0.0, 0.0), (20.0, -30.0)]:
        frame = ENV.render(Car(*(torch.tensor(value) for value in (x, y, 0.0, 0.0, 0.0))))
        red = (frame[..., 0] > 180) & (frame[..., 1] < 100) & (frame[..., 2] < 100)
        middles.append(np.argwhere(red).mean(axis=0))
    # The track reaches further to the right than to the left, and as far up as down.
    assert middles[0][0] / frame.shape[0] == pytest.approx(0.5, abs=0.02)
    assert 0.4 < middles[0][1] / frame.shape[1] < 0.48
    down, right = middles[1] - middles[0]
    assert down / right == pytest.approx(1.5, abs=0.05)
    assert 60 < right < 120
    frame = ENV.render(Car(*(torch.tensor(value) for value in (20.0, -30.0, math.pi / 2, 0.0, 0.0))))
    window = frame[..., 2].astype(int) - frame[..., 0] > 25
    assert np.argwhere(window).mean(axis=0) == pytest.approx(middles[1] + [-15, 0], abs=15)
    assert np.argwhere(window)[:, 0].mean() < middles[1][0]


def test_the_rays_are_drawn_as_far_as_the_edges():
    straight = Driving(second_harmonic=0.0, third_harmonic=0.0)
    frame = straight.render(Car(*(torch.tensor(value) for value in (52.0, 0.0, math.pi / 2, 0.0, 0.0))))
    red, green, blue = (frame[..., channel].astype(int) for channel in range(3))
    yellow = (red - blue > 110) & (red - green > 35) & (red - green < 80)
    across = np.argwhere(yellow)[:, 1] / 640 * 120 - 60  # metres: the picture shows 120, about the origin
    assert across.max() == pytest.approx(54 + 0.5, abs=0.5)


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"mean_radius": 0.0}, ValueError),
        ({"grip": -1.0}, ValueError),
        ({"drag": float("nan")}, ValueError),
        ({"max_steering": 1.6}, ValueError),
        ({"max_steering": 0.0}, ValueError),
        ({"time_step": 0.0}, ValueError),
        ({"third_harmonic": 1.2}, ValueError),
        ({"second_harmonic": 0.5, "third_harmonic": 0.45}, ValueError),
        ({"half_width": 40.0}, ValueError),
        ({"initial_offset": 4.0}, ValueError),
        ({"wheelbase": "long"}, TypeError),
        ({"num_rays": 1}, ValueError),
        ({"num_samples": 0}, ValueError),
        ({"num_rays": 9.0}, TypeError),
        ({"max_episode_steps": 0}, ValueError),
    ],
)
def test_impossible_parameters_are_refused(params, error):
    with pytest.raises(error, match="Driving: "):
        Driving(**params)
