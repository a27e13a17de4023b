// Shardings of HLO as ours and back: what counts is which device holds what.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "core/base/error.h"
#include "partitioner/hlo/convert_sharding.h"

namespace tessera::hlo {
namespace {

constexpr int64_t kExtent = 840;  // what 1 to 8 divide

Shape shape_of_rank(int rank) {
  return Shape(std::vector<int64_t>(static_cast<size_t>(rank), kExtent));
}

HloModule module_with(const std::vector<HloSharding>& shardings) {
  HloModule module;
  HloComputation& computation = module.computations.emplace_back();
  for (const HloSharding& sharding : shardings) {
    HloInstruction& instruction = computation.instructions.emplace_back();
    instruction.attributes.push_back({"sharding", sharding, 1});
  }
  computation.root = 0;
  module.entry = 0;
  return module;
}

// Tile starts by the definition of tile assignments.
std::vector<std::vector<int64_t>> starts_of_tiles(const HloSharding& sharding, int64_t devices) {
  const std::vector<int64_t> list = sharding.devices.expand();
  std::vector<std::vector<int64_t>> starts(static_cast<size_t>(devices));
  for (size_t i = 0; i < list.size(); ++i) {
    std::vector<int64_t> index(sharding.devices.dims.size());
    for (size_t d = index.size(), rest = i; d-- > 0;
         rest /= static_cast<size_t>(sharding.devices.dims[d]))
      index[d] = static_cast<int64_t>(rest) % sharding.devices.dims[d];
    std::vector<int64_t> start;
    for (int d = 0; d < sharding.tile_rank(); ++d)
      start.push_back(index[static_cast<size_t>(d)] *
                      ((kExtent + sharding.devices.dims[static_cast<size_t>(d)] - 1) /
                       sharding.devices.dims[static_cast<size_t>(d)]));
    for (size_t copy = static_cast<size_t>(list[i]); copy < starts.size(); copy += list.size())
      starts[copy] = start;
  }
  return starts;
}

std::vector<std::vector<int64_t>> starts_of(const Sharding& sharding) {
  std::vector<std::vector<int64_t>> starts;
  for (int64_t device = 0; device < sharding.mesh->devices(); ++device)
    starts.push_back(sharding.shard_start(shape_of_rank(sharding.rank()), device));
  return starts;
}

std::vector<std::vector<int64_t>> sorted_groups(const Mesh& mesh, const AxisList& axes) {
  std::vector<std::vector<int64_t>> groups;
  for (int64_t device = 0; device < mesh.devices(); ++device) {
    groups.push_back(mesh.group(device, axes));
    std::sort(groups.back().begin(), groups.back().end());
  }
  return groups;
}

// Every ordered list of disjoint parts on every dim.
template <typename Visit>
void for_each_sharding(const MeshPtr& mesh, int rank, const Visit& visit) {
  AxisList parts;
  for (int a = 0; a < mesh->rank(); ++a) {
    const int64_t size = mesh->axes()[static_cast<size_t>(a)].size;
    for (int64_t pre = 1; pre <= size; ++pre)
      for (int64_t part = 2; part <= size; ++part)
        if (size % (pre * part) == 0) parts.push_back({a, pre, part});
  }
  Sharding sharding(mesh, rank);
  const std::function<void(int)> fill = [&](int dim) {
    if (dim == rank) return visit(sharding);
    fill(dim + 1);
    AxisList& axes = sharding.dims[static_cast<size_t>(dim)].axes;
    for (const AxisRef& part : parts) {
      if (overlaps(sharding.used_axes(), part)) continue;
      const AxisList before = axes;
      axes.push_back(part);
      if (canonical(axes) == axes) fill(dim);
      axes = before;
    }
  };
  fill(0);
}

TEST(ShardingConvert, TilesComeBackOnAllMeshesUpTo8) {
  int64_t count = 0;
  for (const char* text :
       {"<a=1>", "<a=2>", "<a=3>", "<a=4>", "<a=6>", "<a=8>", "<a=2, b=2>", "<a=2, b=3>",
        "<a=3, b=2>", "<a=2, b=4>", "<a=4, b=2>", "<a=2, b=2, c=2>", "<a=2, b=1, c=2>"}) {
    const auto mesh = std::make_shared<Mesh>(parse_mesh(text));
    for (int rank = 0; rank <= 3; ++rank)
      for_each_sharding(mesh, rank, [&](const Sharding& sharding) {
        ++count;
        const std::string printed = print(tile_sharding(sharding));
        const HloSharding parsed = parse_hlo_sharding(printed);
        ASSERT_EQ(print(parsed), printed);
        const MeshPtr chosen = choose_mesh(module_with({parsed}), mesh->devices());
        const ConvertedSharding back = convert_sharding(parsed, chosen, rank);
        ASSERT_NO_THROW(back.sharding.verify());
        ASSERT_EQ(starts_of(back.sharding), starts_of(sharding)) << sharding << " " << printed;
        ASSERT_EQ(print(tile_sharding(back.sharding)), printed) << sharding;
        // Over the mesh that it came from it is the sharding itself.
        const ConvertedSharding same = convert_sharding(parsed, mesh, rank);
        ASSERT_TRUE(same.sharding.same_layout(sharding)) << sharding << " " << same.sharding;
      });
  }
  EXPECT_GT(count, 900);
}

TEST(ShardingConvert, NamesComeBackOnAllMeshesUpTo8) {
  std::mt19937 random(3);
  for (const char* text : {"<a=2>", "<a=6>", "<a=8>", "<a=2, b=3>", "<a=2, b=4>", "<a=2, b=2, c=2>",
                           "<a=2, b=1, c=2>"}) {
    const Mesh plain = parse_mesh(text);
    std::vector<int64_t> order(static_cast<size_t>(plain.devices()));
    std::iota(order.begin(), order.end(), 0);
    for (int turn = 0; turn < 3; ++turn) {
      const auto mesh =
          std::make_shared<Mesh>(std::vector<MeshAxis>(plain.axes().begin(), plain.axes().end()),
                                 turn == 0 ? std::vector<int64_t>{} : order);
      std::shuffle(order.begin(), order.end(), random);
      for_each_sharding(mesh, 2, [&](const Sharding& sharding) {
        const std::string printed = print(named_sharding(sharding));
        const HloSharding parsed = parse_hlo_sharding(printed);
        ASSERT_EQ(print(parsed), printed);
        const MeshPtr chosen = choose_mesh(module_with({parsed}), mesh->devices());
        const ConvertedSharding back = convert_sharding(parsed, chosen, 2);
        ASSERT_EQ(starts_of(back.sharding), starts_of(sharding)) << printed;
        // As do its tiles, whatever the order of devices.
        const HloSharding tiles = parse_hlo_sharding(print(tile_sharding(sharding)));
        ASSERT_EQ(starts_of(convert_sharding(tiles, chosen, 2).sharding), starts_of(sharding));
      });
    }
  }
}

TEST(ShardingConvert, UnreducedGroupsComeBack) {
  for (const char* text : {"<a=4>", "<a=6>", "<a=2, b=2>", "<a=2, b=4>", "<a=2, b=2, c=2>"}) {
    const auto mesh = std::make_shared<Mesh>(parse_mesh(text));
    // The second dim's axes become those of the sum.
    for_each_sharding(mesh, 2, [&](const Sharding& two_dims) {
      Sharding sharding(mesh, 1);
      sharding.dims[0] = two_dims.dims[0];
      sharding.partial = two_dims.dims[1].axes;
      for (const HloSharding& hlo : {tile_sharding(sharding), named_sharding(sharding)}) {
        const HloSharding parsed = parse_hlo_sharding(print(hlo));
        const MeshPtr chosen = choose_mesh(module_with({parsed}), mesh->devices());
        const Sharding back = convert_sharding(parsed, chosen, 1).sharding;
        ASSERT_EQ(starts_of(back), starts_of(sharding)) << print(hlo);
        ASSERT_EQ(sorted_groups(*chosen, back.partial), sorted_groups(*mesh, sharding.partial))
            << print(hlo);
      }
    });
  }
}

HloSharding random_tiles(std::mt19937& random, int64_t devices, bool as_list) {
  auto below = [&](int64_t end) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(end));
  };
  auto split = [&](size_t parts) {
    std::vector<int64_t> sizes(parts, 1);
    for (int64_t rest = devices, prime = 2; rest > 1;) {
      if (rest % prime != 0) {
        ++prime;
        continue;
      }
      sizes[static_cast<size_t>(below(static_cast<int64_t>(parts)))] *= prime;
      rest /= prime;
    }
    return sizes;
  };
  HloSharding sharding;
  sharding.kind = HloSharding::Kind::tiled;
  const size_t subgroups = static_cast<size_t>(below(3));
  sharding.devices.dims = split(2 + subgroups);
  for (size_t i = 0; i < subgroups; ++i)
    sharding.last_tile_dims.push_back(static_cast<SubgroupKind>(below(3)));
  if (as_list) {
    sharding.devices.is_iota = false;
    sharding.devices.list.resize(static_cast<size_t>(devices));
    std::iota(sharding.devices.list.begin(), sharding.devices.list.end(), 0);
    std::shuffle(sharding.devices.list.begin(), sharding.devices.list.end(), random);
  } else {
    sharding.devices.reshape = split(1 + static_cast<size_t>(below(3)));
    sharding.devices.transpose.resize(sharding.devices.reshape.size());
    std::iota(sharding.devices.transpose.begin(), sharding.devices.transpose.end(), 0);
    std::shuffle(sharding.devices.transpose.begin(), sharding.devices.transpose.end(), random);
  }
  return sharding;
}

void expect_same_subgroups(const HloSharding& hlo, const ConvertedSharding& converted) {
  for (const SubgroupKind kind : {SubgroupKind::manual, SubgroupKind::unreduced}) {
    const AxisList& axes =
        kind == SubgroupKind::manual ? converted.manual : converted.sharding.partial;
    int64_t size = 1;
    for (size_t d = 0; d < hlo.last_tile_dims.size(); ++d)
      if (hlo.last_tile_dims[d] == kind)
        size *= hlo.devices.dims[static_cast<size_t>(hlo.tile_rank()) + d];
    EXPECT_EQ(size_of(axes), size) << print(hlo);
  }
}

TEST(ShardingConvert, RandomIotasHoldWhatTheySay) {
  std::mt19937 random(5);
  for (int turn = 0; turn < 3000; ++turn) {
    const int64_t devices = std::vector<int64_t>{2, 4, 6, 8, 12, 16, 24, 36}[random() % 8];
    std::vector<HloSharding> shardings;
    for (int i = 0; i < 3; ++i) shardings.push_back(random_tiles(random, devices, false));
    const int64_t copies = 1 + static_cast<int64_t>(random() % 2);
    const MeshPtr mesh = choose_mesh(module_with(shardings), devices * copies);
    ASSERT_EQ(mesh->devices(), devices * copies);
    for (const HloSharding& hlo : shardings) {
      ASSERT_EQ(print(parse_hlo_sharding(print(hlo))), print(hlo));
      const ConvertedSharding converted = convert_sharding(hlo, mesh, 2);
      ASSERT_EQ(starts_of(converted.sharding), starts_of_tiles(hlo, mesh->devices())) << print(hlo);
      expect_same_subgroups(hlo, converted);
    }
    // The first fits the axes, if only its tiles end where its digits may be cut.
    if ((devices & (devices - 1)) == 0) {
      EXPECT_EQ(*convert_sharding(shardings[0], mesh, 2).sharding.mesh, *mesh)
          << print(shardings[0]);
    }
  }
}

TEST(ShardingConvert, PermutedListsHoldWhatTheySay) {
  std::vector<int64_t> list = {0, 1, 2, 3};
  int64_t strided = 0;
  do {
    for (const auto& dims : {std::vector<int64_t>{2, 2}, {4, 1}, {2, 1, 2}, {1, 1, 4}}) {
      HloSharding hlo;
      hlo.kind = HloSharding::Kind::tiled;
      hlo.devices.dims = dims;
      hlo.devices.is_iota = false;
      hlo.devices.list = list;
      if (dims.size() == 3) hlo.last_tile_dims = {SubgroupKind::replicated};
      const auto mesh = std::make_shared<Mesh>(parse_mesh("<x0=2, x1=2>"));
      const ConvertedSharding converted = convert_sharding(hlo, mesh, 2);
      ASSERT_EQ(starts_of(converted.sharding), starts_of_tiles(hlo, 4)) << print(hlo);
      const MeshPtr chosen = choose_mesh(module_with({hlo}), 0);
      const ConvertedSharding over_chosen = convert_sharding(hlo, chosen, 2);
      ASSERT_EQ(starts_of(over_chosen.sharding), starts_of_tiles(hlo, 4)) << print(hlo);
      EXPECT_EQ(*over_chosen.sharding.mesh, *chosen);  // the only order there is
      strided += *converted.sharding.mesh == *mesh;
      // And back, as an iota wherever it is one.
      const HloSharding back = tile_sharding(converted.sharding);
      ASSERT_EQ(starts_of(convert_sharding(back, mesh, 2).sharding), starts_of(converted.sharding));
    }
  } while (std::next_permutation(list.begin(), list.end()));
  // [2,2] and [4,1]: the two orders of two bits; [2,1,2]: pairs {0,1},{2,3} or {0,2},{1,3} in
  // order, each listed in four ways; [1,1,4]: all.
  EXPECT_EQ(strided, 2 + 2 + 8 + 24);
  std::mt19937 random(9);
  for (int turn = 0; turn < 1000; ++turn) {
    const int64_t devices = std::vector<int64_t>{6, 8, 12}[random() % 3];
    const std::vector<HloSharding> shardings = {random_tiles(random, devices, true),
                                                random_tiles(random, devices, false),
                                                random_tiles(random, devices, true)};
    const MeshPtr mesh = choose_mesh(module_with(shardings), devices * (1 + turn % 2));
    for (const HloSharding& hlo : shardings) {
      const ConvertedSharding converted = convert_sharding(hlo, mesh, 2);
      ASSERT_EQ(starts_of(converted.sharding), starts_of_tiles(hlo, mesh->devices())) << print(hlo);
      expect_same_subgroups(hlo, converted);
    }
  }
}

TEST(ShardingConvert, SaysWhatElseAShardingSays) {
  const auto mesh = std::make_shared<Mesh>(parse_mesh("<data=2, model=4>"));
  const auto convert = [&](const char* text, int rank, const std::vector<int64_t>& open = {}) {
    return convert_sharding(parse_hlo_sharding(text), mesh, rank, open);
  };
  const auto lies = [&](const char* text, const char* expected,
                        const std::vector<int64_t>& open = {}) {
    EXPECT_EQ(cat(convert(text, 2, open).sharding), expected) << text;
  };
  lies("{replicated}", "[{}, {}]");
  lies("{replicated}", "[{}, {?}]", {1});
  lies("{devices=[8,1]<=[8]}", "[{data,model}, {}]");
  lies("{devices=[1,8]<=[2,4]T(1,0)}", "[{}, {model,data}]");
  lies("{devices=[2,1,4]<=[8] last_tile_dim_replicate}", "[{data}, {?}]", {1});
  lies("{devices=[2,2,2]<=[8] last_tile_dim_replicate}", "[{data}, {model:(1)2}]");
  lies("{devices=[1,2,4]<=[2,2,2]T(2,0,1) last_tile_dim_replicate}", "[{}, {model:(2)2}]");
  lies("{devices=[2,1,4]<=[8] last_tile_dims={unreduced}}", "[{data}, {}] partial{sum: model}");
  lies("{unreduced}", "[{}, {}] partial{sum: data,model}");
  lies("{unknown}", "[{?}, {?}]");
  lies("{maximal device=7}", "[{}, {}]");
  lies("{mesh['data'=2,'model'=4], [{'model'}, {'data', ?}p1]}", "[{model}, {data,?}p1]");
  lies("{mesh['data'=2,'model'=4], [{?}, {}], replicated={'data'}, unreduced=max{'model':(2)2}}",
       "[{?}, {}] replicated{data} partial{max: model:(2)2}");
  lies("{mesh['data'=2,'model'=4], [], replicated={'data'}}", "[{}, {}] replicated{data}");
  // Names of another mesh, by their strides.
  lies("{mesh['x'=4,'y'=2], [{'x'}, {'y'}]}", "[{data,model:(1)2}, {model:(2)2}]");
  lies("{mesh['x'=2,'y'=4], device_ids=([4,2]T(1,0)), [{'x'}, {'y'}]}",
       "[{model:(2)2}, {data,model:(1)2}]");
  EXPECT_TRUE(convert("{unknown}", 2).is_unknown);
  EXPECT_TRUE(convert("{manual}", 2).is_manual);
  EXPECT_EQ(print_axes(*mesh, convert("{manual}", 2).manual), "data,model");
  const ConvertedSharding subgroups =
      convert("{devices=[1,2,2,2]<=[8] last_tile_dims={manual, replicated}}", 2);
  EXPECT_EQ(cat(subgroups.sharding), "[{}, {data}]");
  EXPECT_EQ(print_axes(*mesh, subgroups.manual), "model:(1)2");
  EXPECT_NE(convert("{maximal device=7}", 2).note.find("taken as replicated"), std::string::npos);
  EXPECT_EQ(cat(convert("{{devices=[8]<=[8]}}", 1).sharding), "[{data,model}]");
}

TEST(ShardingConvert, RefusesWhatDoesNotFit) {
  const auto mesh = std::make_shared<Mesh>(parse_mesh("<a=4>"));
  const auto refuses = [&](const char* text, const char* message) {
    try {
      convert_sharding(parse_hlo_sharding(text), mesh, 2);
      ADD_FAILURE() << text;
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << error.what();
    }
  };
  refuses("{devices=[4]<=[4]}", "is for rank 1, but the tensor has rank 2");
  refuses("{mesh['a'=4], [{'a'}]}", "is for rank 1, but the tensor has rank 2");
  refuses("{devices=[8,1]<=[8]}", "8 devices does not fit the mesh <a=4> of 4");
  refuses("{devices=[3,1]<=[3]}", "must be a multiple of 3");
  refuses("{devices=[2,2]0,1,2,5}", "device 5 in an arrangement of 4");
  refuses("{{replicated}, {replicated}}", "one of a tuple of 2");
  EXPECT_THROW(convert_sharding(parse_hlo_sharding("{replicated}"), mesh, 2, {2}), UserError);
}

TEST(ShardingConvert, PrintsTilesCanonically) {
  const auto mesh = std::make_shared<Mesh>(parse_mesh("<a=2, b=2>"));
  const auto prints = [&](const char* sharding, const char* tiles, const char* named) {
    EXPECT_EQ(print(tile_sharding(parse_sharding(mesh, sharding))), tiles);
    EXPECT_EQ(print(named_sharding(parse_sharding(mesh, sharding))), named);
  };
  prints("[{}, {}]", "{replicated}", "{mesh['a'=2,'b'=2], [{}, {}]}");
  prints("[{a}, {b}]", "{devices=[2,2]<=[4]}", "{mesh['a'=2,'b'=2], [{'a'}, {'b'}]}");
  prints("[{b}, {a}]", "{devices=[2,2]<=[2,2]T(1,0)}", "{mesh['a'=2,'b'=2], [{'b'}, {'a'}]}");
  prints("[{b}, {}]", "{devices=[2,1,2]<=[2,2]T(1,0) last_tile_dim_replicate}",
         "{mesh['a'=2,'b'=2], [{'b'}, {}]}");
  prints("[{}, {?}] partial{sum: a,b}", "{unreduced}",
         "{mesh['a'=2,'b'=2], [{}, {?}], unreduced={'a', 'b'}}");
  prints("[{a}, {}] partial{max: b}", "{devices=[2,1,2]<=[4] last_tile_dims={unreduced}}",
         "{mesh['a'=2,'b'=2], [{'a'}, {}], unreduced=max{'b'}}");
  // As JAX writes its NamedShardings.
  const auto cube = std::make_shared<Mesh>(parse_mesh("<a=2, b=2, c=2>"));
  const auto prints_on_cube = [&](const char* sharding, const char* tiles) {
    EXPECT_EQ(print(tile_sharding(parse_sharding(cube, sharding))), tiles);
  };
  prints_on_cube("[{c,b,a}, {}]", "{devices=[8,1]<=[2,2,2]T(2,1,0)}");
  prints_on_cube("[{b}, {}]", "{devices=[2,1,4]<=[2,2,2]T(1,0,2) last_tile_dim_replicate}");
  prints_on_cube("[{b}, {c}]", "{devices=[2,2,2]<=[2,4]T(1,0) last_tile_dim_replicate}");
  prints_on_cube("[{c}, {a}]", "{devices=[2,2,2]<=[4,2]T(1,0) last_tile_dim_replicate}");
  prints_on_cube("[{b}, {c,a}]", "{devices=[2,4]<=[2,4]T(1,0)}");
  prints_on_cube("[{c}, {b,a}]", "{devices=[2,4]<=[2,2,2]T(2,1,0)}");
  const auto turned = std::make_shared<Mesh>(parse_mesh("<a=2, b=2, device_order=[0,2,1,3]>"));
  EXPECT_EQ(print(tile_sharding(parse_sharding(turned, "[{a}, {b}]"))),
            "{devices=[2,2]<=[2,2]T(1,0)}");
  EXPECT_EQ(print(named_sharding(parse_sharding(turned, "[{a}, {}]"))),
            "{mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)), [{'a'}, {}]}");
  const auto ring = std::make_shared<Mesh>(parse_mesh("<a=2, b=2, device_order=[0,1,3,2]>"));
  EXPECT_EQ(print(tile_sharding(parse_sharding(ring, "[{a}, {b}]"))), "{devices=[2,2]0,1,3,2}");
}

}  // namespace
}  // namespace tessera::hlo
